"""Slices with outlines of truth and prediction, and scan pages: a scan's pixels under stored predictions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import cast

import numpy as np
import numpy.typing as npt
from contourpy import LineType, contour_generator

from slicemill.core.scans.scan import FLAIR, Scan
from slicemill.io.picture import webp
from slicemill.io.scores.tables import slice_rows
from slicemill.report.figures.data import channel_name
from slicemill.report.figures.style import data_uri
from slicemill.report.inputs import Inputs, Row, read_pixels
from slicemill.report.sections.blocks import Channel, Frame, Overlay, Viewer
from slicemill.types import ScanImages, SliceMask

#: Rows and columns up to which a slice is shown in full; a larger one is averaged down by a whole number.
MAX_SIDE = 256
#: Slices of a scan page; of more, this many at equal distances.
MAX_FRAMES = 120
_COLUMNS = 10
_QUALITY, _SHEET_QUALITY = 82, 74
#: Share of pixels that the display's window saturates.
_BRIGHTEST = 0.998

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Predicted:
    """One predicted slice: mask, 0/1 uint8 (H, W), area in pixels, Dice, highest tumour probability.

    Mask and area are None from a classifier, Dice is None without truth.
    """

    mask: SliceMask | None
    area: int | None
    dice: float | None
    probability: float

    @property
    def words(self) -> str:
        """What was predicted: an area, or a classifier's probability."""
        return f"probability {self.probability:.2f}" if self.area is None else f"predicted {self.area:,} px"


@dataclass(frozen=True)
class ScoredScan:
    """A scan, and its predicted slices by slice number."""

    scan: Scan
    predicted: Mapping[int, Predicted] = field(default_factory=dict)

    @property
    def channel(self) -> int:
        """The channel that is shown first."""
        return shown_channel(self.scan)


def shown_channel(scan: Scan) -> int:
    """The channel of a scan that is shown first: FLAIR where there are three."""
    return FLAIR if scan.slices[0].image.shape[-1] > FLAIR else 0


def read_scored_scan(inputs: Inputs, row: Row) -> ScoredScan | None:
    """A scan with its predicted slices, by its row of the scored scans.

    None where neither lake nor raw folders hold it, or none of its slices was scored.
    """
    scan = read_pixels(inputs, row["scan_id"]) if row["slices"] else None
    if scan is None or inputs.scores is None:
        return None
    return ScoredScan(scan, dict(_predictions(inputs.scores.home, row)))


def _predictions(scores: str, row: Row) -> Iterator[tuple[int, Predicted]]:
    columns = ("slice_index", "height", "width", "mask", "tumour_pixels", "dice", "max_probability")
    for stored in slice_rows(scores, row, columns):
        yield (
            stored["slice_index"],
            Predicted(_mask(stored), stored["tumour_pixels"], stored["dice"], stored["max_probability"]),
        )


def _mask(stored: Row) -> SliceMask | None:
    if stored["mask"] is None:
        return None
    shape = stored["height"], stored["width"]
    bits = np.unpackbits(np.frombuffer(stored["mask"], np.uint8), count=shape[0] * shape[1])
    return bits.reshape(shape)


def outline_points(mask: SliceMask | None) -> list[npt.NDArray[np.float64]]:
    """The outline of a mask, axes (H, W), as closed lines (N, 2): x and y in pixels from the top left corner.

    Where the mask's edge lies between two pixels' centres, so does the line. No line without a mask.
    """
    if mask is None or not mask.any():
        return []
    framed = np.pad(mask, 1).astype(np.float64)
    # Arrays (N, 2) in pixels of the padded mask, whose own pixel 0 has its centre at 0.
    lines = cast(
        list[npt.NDArray[np.float64]], contour_generator(z=framed, line_type=LineType.Separate).lines(0.5)
    )
    return [line - 0.5 for line in lines]


def outline(mask: SliceMask | None) -> str:
    """The outline of a mask as an SVG path in half pixels; empty without a mask."""
    return "".join(_path(np.rint(line * 2).astype(np.int_)) for line in outline_points(mask))


def _path(points: npt.NDArray[np.int_]) -> str:
    steps = np.diff(points, axis=0)
    moves = " ".join(f"{x} {y}" for x, y in steps[:-1])
    return f"M{points[0, 0]} {points[0, 1]}l{moves}z"


def window(images: ScanImages) -> npt.NDArray[np.float64]:
    """Grey value of each channel that is shown as white: its 99.8th percentile over the scan, at least 1."""
    return np.asarray(np.maximum(np.quantile(images, _BRIGHTEST, axis=(0, 1, 2)), 1.0))


def display(plane: Pixels, white: float) -> Pixels:
    """One channel of a slice (H, W) as it is shown: black at 0, white at `white`, `MAX_SIDE` at most."""
    factor = -(-max(plane.shape) // MAX_SIDE)
    grey = np.minimum(plane.astype(np.float64) * (255.0 / white), 255.0)
    if factor > 1:
        rows, columns = (side // factor for side in plane.shape)
        grey = (
            grey[: rows * factor, : columns * factor].reshape(rows, factor, columns, factor).mean(axis=(1, 3))
        )
    return np.asarray(np.rint(grey), np.uint8)


def overlay(
    scored: ScoredScan, slice_index: int, label: str, detail: str, anchor: str | None = None
) -> Overlay:
    """One slice of a scan with both outlines over its FLAIR picture."""
    one = next(one for one in scored.scan.slices if one.slice_index == slice_index)
    predicted = scored.predicted.get(slice_index)
    white = float(window(scored.scan.images[..., scored.channel : scored.channel + 1])[0])
    grey = display(one.image[..., scored.channel], white)
    return Overlay(
        image=data_uri("image/webp", webp(grey, _QUALITY)),
        width=one.image.shape[1],
        height=one.image.shape[0],
        truth=outline(one.mask),
        predicted=outline(predicted.mask if predicted else None),
        label=label,
        detail=detail,
        anchor=anchor,
    )


def viewer(scored: ScoredScan, anchor: str, detail: str) -> Viewer:
    """The page of a scan: all its slices in every channel, with both outlines."""
    slices = scored.scan.slices
    chosen = np.unique(np.linspace(0, len(slices) - 1, min(len(slices), MAX_FRAMES)).round().astype(int))
    images = np.stack([slices[place].image for place in chosen])
    whites = window(images)
    height, width, channels = images.shape[1:]
    frames = tuple(_frame(scored, int(place)) for place in chosen)
    sheets = (
        _sheet(np.stack([display(plane, whites[channel]) for plane in images[..., channel]]))
        for channel in range(channels)
    )
    return Viewer(
        anchor=anchor,
        title=scored.scan.scan_id,
        detail=detail,
        width=width,
        height=height,
        columns=_COLUMNS,
        rows=-(-len(frames) // _COLUMNS),
        start=_nearest(scored, chosen),
        start_channel=scored.channel,
        channels=tuple(
            Channel(channel_name(channel, channels), sheet) for channel, sheet in enumerate(sheets)
        ),
        frames=frames,
    )


def _frame(scored: ScoredScan, place: int) -> Frame:
    one = scored.scan.slices[place]
    predicted = scored.predicted.get(one.slice_index)
    words = [] if predicted is None else [predicted.words]
    if one.mask is not None:
        words.append(f"true {int(np.count_nonzero(one.mask)):,} px")
    if predicted is not None and predicted.dice is not None:
        words.append(f"Dice {predicted.dice:.3f}")
    return Frame(
        one.slice_index, outline(one.mask), outline(predicted.mask if predicted else None), ", ".join(words)
    )


def largest_slice(scored: ScoredScan) -> int:
    """Number of the slice with the largest true tumour; without one, of the largest or surest prediction."""
    slices = scored.scan.slices
    true = [0 if one.mask is None else int(np.count_nonzero(one.mask)) for one in slices]
    sizes: list[float] = (
        [*true] if any(true) else [_size(scored.predicted.get(one.slice_index)) for one in slices]
    )
    return slices[int(np.argmax(sizes))].slice_index


def _size(predicted: Predicted | None) -> float:
    if predicted is None:
        return 0.0
    return predicted.probability if predicted.area is None else float(predicted.area)


def _nearest(scored: ScoredScan, chosen: npt.NDArray[np.int_]) -> int:
    """Position among the chosen slices that is nearest to the largest tumour."""
    indices = np.array([scored.scan.slices[place].slice_index for place in chosen])
    return int(np.argmin(np.abs(indices - largest_slice(scored))))


def _sheet(planes: Pixels) -> str:
    """Slices (S, H, W) side by side, ten a row, as one picture."""
    count, height, width = planes.shape
    rows = -(-count // _COLUMNS)
    blank = np.zeros((rows * _COLUMNS, height, width), np.uint8)
    blank[:count] = planes
    sheet = (
        blank.reshape(rows, _COLUMNS, height, width).swapaxes(1, 2).reshape(rows * height, _COLUMNS * width)
    )
    return data_uri("image/webp", webp(sheet, _SHEET_QUALITY))


def weight(block: Viewer | Overlay) -> int:
    """Bytes that a block's pictures and outlines add to a page."""
    if isinstance(block, Overlay):
        return len(block.image) + len(block.truth) + len(block.predicted)
    paths = sum(len(frame.truth) + len(frame.predicted) for frame in block.frames)
    return paths + sum(len(channel.sheet) for channel in block.channels)
