"""Pictures for pages."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, UnidentifiedImageError

from slicemill.types import SliceMask


def webp(pixels: npt.NDArray[np.uint8], quality: int) -> bytes:
    """A lossy WebP file of a grey picture, axes (H, W); quality from 0 to 100."""
    sink = io.BytesIO()
    Image.fromarray(pixels).save(sink, "WEBP", quality=quality, method=2)
    return sink.getvalue()


def webp_colours(pixels: npt.NDArray[np.uint8]) -> bytes:
    """A WebP file of a picture with transparency, axes (H, W, 4), that keeps every pixel as it is."""
    sink = io.BytesIO()
    Image.fromarray(pixels).save(sink, "WEBP", lossless=True, quality=60, method=3)
    return sink.getvalue()


#: Outlines of truth and prediction, as everywhere: Okabe and Ito's sky blue and orange.
_TRUTH, _PREDICTION = (86, 180, 233), (230, 159, 0)
_WORDS = (230, 233, 238)


def outline_png(grey: npt.NDArray[np.uint8], predicted: SliceMask, truth: SliceMask | None) -> bytes:
    """A PNG file of a grey slice with the border pixels of both masks in colour, the prediction on top.

    All arrays are uint8 with axes (H, W), masks hold 0 and 1.
    """
    sink = io.BytesIO()
    Image.fromarray(_outlined(grey, predicted, truth)).save(sink, "PNG")
    return sink.getvalue()


def _outlined(
    grey: npt.NDArray[np.uint8], predicted: SliceMask | None, truth: SliceMask | None
) -> npt.NDArray[np.uint8]:
    picture = np.repeat(grey[..., None], 3, axis=-1)
    for mask, colour in ((truth, _TRUTH), (predicted, _PREDICTION)):
        if mask is not None:
            picture[_border(mask)] = colour
    return picture


@dataclass(frozen=True)
class Thumbnail:
    """A slice of a contact sheet: grey picture and 0/1 masks, uint8 (H, W), and the words in its corner."""

    grey: npt.NDArray[np.uint8]
    predicted: SliceMask | None
    truth: SliceMask | None
    words: str


#: Tiles in a row of a contact sheet, and rows of pixels for its head.
_COLUMNS, _HEAD = 10, 28


def contact_sheet(tiles: Sequence[Thumbnail], title: str) -> bytes:
    """A WebP file of slices of equal size, ten a row, with borders as in `outline_png`, under one title."""
    height, width = tiles[0].grey.shape
    columns = min(_COLUMNS, len(tiles))
    rows = -(-len(tiles) // columns)
    sheet = Image.new("RGB", (columns * width, _HEAD + rows * height))
    pen = ImageDraw.Draw(sheet)
    for place, tile in enumerate(tiles):
        corner = place % columns * width, _HEAD + place // columns * height
        sheet.paste(Image.fromarray(_outlined(tile.grey, tile.predicted, tile.truth)), corner)
        pen.text((corner[0] + 4, corner[1] + 3), tile.words, fill=_WORDS, font_size=11)
    for text, colour, x in (("truth", _TRUTH, 6), ("prediction", _PREDICTION, 52), (title, _WORDS, 128)):
        pen.text((x, 7), text, fill=colour, font_size=13)
    sink = io.BytesIO()
    sheet.save(sink, "WEBP", quality=85, method=3, use_sharp_yuv=True)
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
