"""Pictures for pages."""

from __future__ import annotations

import io

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from slicemill.types import SliceMask


def webp(pixels: npt.NDArray[np.uint8], quality: int) -> bytes:
    """A lossy WebP file of a grey picture, axes (H, W); quality from 0 to 100."""
    sink = io.BytesIO()
    Image.fromarray(pixels).save(sink, "WEBP", quality=quality, method=2)
    return sink.getvalue()


def png_mask(mask: SliceMask) -> bytes:
    """A PNG file with 255 where a 0/1 mask, axes (H, W), is 1."""
    sink = io.BytesIO()
    Image.fromarray(mask * np.uint8(255)).save(sink, "PNG")
    return sink.getvalue()


def png_size(data: bytes) -> tuple[int, int] | None:
    """Width and height of a PNG file in pixels, read from its head; None if it is none."""
    try:
        with Image.open(io.BytesIO(data), formats=("PNG",)) as picture:
            return picture.size
    except UnidentifiedImageError:
        return None
