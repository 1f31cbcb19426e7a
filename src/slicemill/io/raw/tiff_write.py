"""Slices and masks as TIFF files of the public data set's form: uncompressed, little-endian, uint8."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from slicemill.types import SliceImage, SliceMask

_SAMPLES, _PLANAR, _SAMPLE_FORMAT = 277, 284, 339
_INTERLEAVED = _UNSIGNED = 1


def encode_image(image: SliceImage) -> bytes:
    """A TIFF file of a uint8 image, axes (H, W, 3); raises ValueError for any other array."""
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise ValueError(f"image: expected uint8 (H, W, 3), found {image.dtype} {image.shape}")
    return _encode(image, 3)


def encode_mask(mask: SliceMask) -> bytes:
    """A TIFF file with 255 where a 0/1 mask, axes (H, W), is 1; raises ValueError for any other array."""
    if mask.dtype not in (np.uint8, np.bool_) or mask.ndim != 2 or mask.max(initial=0) > 1:
        raise ValueError(f"mask: expected 0/1 of axes (H, W), found {mask.dtype} {mask.shape}")
    return _encode(mask.astype(np.uint8) * np.uint8(255), 1)


def _encode(pixels: SliceImage | SliceMask, samples: int) -> bytes:
    sink = io.BytesIO()
    # The public files carry these tags; Pillow leaves some of them out unless told.
    tags = {_SAMPLES: samples, _PLANAR: _INTERLEAVED, _SAMPLE_FORMAT: (_UNSIGNED,) * samples}
    Image.fromarray(pixels).save(sink, "TIFF", tiffinfo=tags)
    return sink.getvalue()
