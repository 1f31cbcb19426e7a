"""Slices with outlines of truth and prediction, and scan pages: a scan's pixels under stored predictions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import numpy as np
import numpy.typing as npt
from contourpy import LineType, contour_generator

from slicemill.core.evaluation.confidence import Levels
from slicemill.core.scans.scan import FLAIR, Scan, Slice
from slicemill.io.picture import webp, webp_colours
from slicemill.io.scores.results import PredictedScan, PredictedSlice
from slicemill.pages.figures.data import channel_name
from slicemill.pages.figures.heat import QUANTITIES, Quantity
from slicemill.pages.figures.style import data_uri
from slicemill.pages.sections.blocks import Channel, Frame, Layer, Overlay, Viewer
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


def first_channel(scan: Scan) -> int:
    """The channel of a scan that is shown first: FLAIR where there are three."""
    return FLAIR if scan.slices[0].image.shape[-1] > FLAIR else 0


def prediction_words(predicted: PredictedSlice) -> str:
    """What was predicted: an area, or a classifier's probability."""
    if predicted.area is None:
        return f"probability {predicted.probability:.2f}"
    return f"predicted {predicted.area:,} px"


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


def slice_of(scan: Scan, slice_index: int) -> Slice:
    """The slice of a scan by its number."""
    return next(entry for entry in scan.slices if entry.slice_index == slice_index)


def white_level(scan: Scan) -> float:
    """Grey value that is shown as white in the channel that is shown first."""
    return float(window(scan.images[..., first_channel(scan), None])[0])


def overlay(
    scored: PredictedScan, slice_index: int, label: str, detail: str, quantity: Quantity | None = None
) -> Overlay:
    """One slice of a scan with both outlines over its FLAIR picture, and over that the map of a quantity."""
    entry = slice_of(scored.scan, slice_index)
    predicted = scored.predicted.get(slice_index)
    grey = display(entry.image[..., first_channel(scored.scan)], white_level(scored.scan))
    return Overlay(
        image=data_uri("image/webp", webp(grey, _QUALITY)),
        width=entry.image.shape[1],
        height=entry.image.shape[0],
        truth=outline(entry.mask),
        predicted=outline(predicted.mask if predicted else None),
        label=label,
        detail=detail,
        layer=None
        if quantity is None
        else _map(quantity, _values(quantity, scored.levels[slice_index][None])[0]),
    )


def viewer(scored: PredictedScan, anchor: str, detail: str) -> Viewer:
    """The page of a scan: all its slices in every channel, with both outlines."""
    slices = scored.scan.slices
    shown_places = np.unique(
        np.linspace(0, len(slices) - 1, min(len(slices), MAX_FRAMES)).round().astype(int)
    )
    images = np.stack([slices[place].image for place in shown_places])
    whites = window(images)
    height, width, channels = images.shape[1:]
    frames = tuple(_frame(scored, int(place)) for place in shown_places)
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
        start=_nearest(scored, shown_places),
        start_channel=first_channel(scored.scan),
        channels=tuple(
            Channel(channel_name(channel, channels), sheet) for channel, sheet in enumerate(sheets)
        ),
        frames=frames,
        layers=_layers(scored, [slices[place].slice_index for place in shown_places]),
    )


def _layers(scored: PredictedScan, numbers: Sequence[int]) -> tuple[Layer, ...]:
    """Maps of all quantities; none where scoring did not write the probabilities of these slices."""
    if not scored.levels.keys() >= set(numbers):
        return ()
    levels = np.stack([scored.levels[number] for number in numbers])
    return tuple(
        Layer(_map(quantity, _grid(_values(quantity, levels))), quantity.scale) for quantity in QUANTITIES
    )


def _values(quantity: Quantity, levels: Levels) -> Levels:
    """What is shown of probabilities, axes (S, H, W), averaged down as slices are."""
    return np.stack([display(plane, 255.0) for plane in quantity.values(levels)])


def _map(quantity: Quantity, values: Levels) -> str:
    return data_uri("image/webp", webp_colours(quantity.picture(values)))


def _frame(scored: PredictedScan, place: int) -> Frame:
    entry = scored.scan.slices[place]
    predicted = scored.predicted.get(entry.slice_index)
    words = [] if predicted is None else [prediction_words(predicted)]
    if entry.mask is not None:
        words.append(f"true {int(np.count_nonzero(entry.mask)):,} px")
    if predicted is not None and predicted.dice is not None:
        words.append(f"Dice {predicted.dice:.3f}")
    return Frame(
        entry.slice_index,
        outline(entry.mask),
        outline(predicted.mask if predicted else None),
        ", ".join(words),
    )


def largest_slice(scan: Scan | PredictedScan) -> int:
    """Number of the slice with the largest true tumour; without one, of the largest or surest prediction."""
    scored = PredictedScan.of(scan)
    slices = scored.scan.slices
    true = [0 if entry.mask is None else int(np.count_nonzero(entry.mask)) for entry in slices]
    sizes: list[float] = (
        [*true] if any(true) else [_size(scored.predicted.get(entry.slice_index)) for entry in slices]
    )
    return slices[int(np.argmax(sizes))].slice_index


def _size(predicted: PredictedSlice | None) -> float:
    if predicted is None:
        return 0.0
    return predicted.probability if predicted.area is None else float(predicted.area)


def _nearest(scored: PredictedScan, frame_places: npt.NDArray[np.int_]) -> int:
    """Position among the chosen slices that is nearest to the largest tumour."""
    indices = np.array([scored.scan.slices[place].slice_index for place in frame_places])
    return int(np.argmin(np.abs(indices - largest_slice(scored))))


def _sheet(planes: Pixels) -> str:
    return data_uri("image/webp", webp(_grid(planes), _SHEET_QUALITY))


def _grid(planes: Pixels) -> Pixels:
    """Slices (S, H, W) side by side, ten a row, as one picture (H, W)."""
    count, height, width = planes.shape
    rows = -(-count // _COLUMNS)
    blank = np.zeros((rows * _COLUMNS, height, width), np.uint8)
    blank[:count] = planes
    return (
        blank.reshape(rows, _COLUMNS, height, width).swapaxes(1, 2).reshape(rows * height, _COLUMNS * width)
    )


def weight(block: Viewer | Overlay) -> int:
    """Bytes that a block's pictures and outlines add to a page."""
    if isinstance(block, Overlay):
        return len(block.image) + len(block.truth) + len(block.predicted) + len(block.layer or "")
    paths = sum(len(frame.truth) + len(frame.predicted) for frame in block.frames)
    sheets = [channel.sheet for channel in block.channels] + [layer.sheet for layer in block.layers]
    return paths + sum(map(len, sheets))
