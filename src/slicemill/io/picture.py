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


#: Outlines of truth and prediction, as everywhere: Okabe and Ito's sky blue and orange.
_TRUTH, _PREDICTION = (86, 180, 233), (230, 159, 0)


def outline_png(grey: npt.NDArray[np.uint8], predicted: SliceMask, truth: SliceMask | None) -> bytes:
    """A PNG file of a grey slice with the border pixels of both masks in colour, the prediction on top.

    All arrays are uint8 with axes (H, W), masks hold 0 and 1.
    """
    picture = np.repeat(grey[..., None], 3, axis=-1)
    for mask, colour in ((truth, _TRUTH), (predicted, _PREDICTION)):
        if mask is not None:
            picture[_border(mask)] = colour
    sink = io.BytesIO()
    Image.fromarray(picture).save(sink, "PNG")
    return sink.getvalue()


def _border(mask: SliceMask) -> npt.NDArray[np.bool_]:
    """Pixels of a mask that touch what is outside it, by an edge."""
    framed = np.pad(mask, 1).astype(bool)
    inside = framed[:-2, 1:-1] & framed[2:, 1:-1] & framed[1:-1, :-2] & framed[1:-1, 2:]
    border: npt.NDArray[np.bool_] = mask.astype(bool) & ~inside
    return border


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
