"""Figures of slices: many scans at a glance, one slice's channels, outlines, what augmentation does."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from slicemill.core.scans.scan import Scan
from slicemill.io.scores.results import PredictedScan
from slicemill.pages.figures.data import channel_name
from slicemill.pages.figures.overlay import (
    display,
    first_channel,
    outline_points,
    slice_of,
    white_level,
    window,
)
from slicemill.pages.figures.style import PREDICTION, TRUTH, drawn
from slicemill.types import Floats, SliceMask

#: Slices side by side in a figure, and slices that a figure shows at most.
COLUMNS, MAX_SLICES = 6, 48
_SIDE = 2.0

Pixels = npt.NDArray[np.uint8]
#: A line style of matplotlib: a name, or an offset with lengths of ink and gap.
Dashes = str | tuple[int, tuple[int, int]]


@drawn
def outlined(slices: Sequence[tuple[Scan | PredictedScan, int]]) -> Figure:
    """Slices of any scans, by their numbers, with outlines over FLAIR; the first `MAX_SLICES`."""
    first = [(PredictedScan.of(scan), slice_index) for scan, slice_index in slices[:MAX_SLICES]]
    figure, panels = _panels(len(first))
    for axes, (scored, slice_index) in zip(panels, first, strict=False):
        _draw_slice(axes, scored, slice_index, white_level(scored.scan))
        axes.set_title(f"{scored.scan.scan_id}\nslice {slice_index}", fontsize=7)
    _legend(figure, predicted=any(scored.predicted for scored, _ in first))
    return figure


@drawn
def slice_grid(scan: Scan | PredictedScan) -> Figure:
    """The slices of one scan in order with outlines over FLAIR; of many, `MAX_SLICES` at equal distances."""
    scored = PredictedScan.of(scan)
    slices = scored.scan.slices
    places = np.unique(np.linspace(0, len(slices) - 1, min(len(slices), MAX_SLICES)).round().astype(int))
    figure, panels = _panels(len(places))
    white = white_level(scored.scan)
    for axes, place in zip(panels, places, strict=False):
        _draw_slice(axes, scored, slices[place].slice_index, white)
        axes.set_title(f"slice {slices[place].slice_index}", fontsize=8)
    figure.suptitle(scored.scan.scan_id, fontsize=10, x=0.01, ha="left")
    _legend(figure, predicted=bool(scored.predicted))
    return figure


@drawn
def channel_views(scan: Scan, slice_index: int) -> Figure:
    """Each channel of a slice, and the mask's outline over the channel that is shown first."""
    entry = slice_of(scan, slice_index)
    whites = window(scan.images)
    channels = entry.image.shape[-1]
    figure, panels = _panels(channels + 1, columns=channels + 1, side=2.6)
    for channel, axes in enumerate(panels[:channels]):
        _grey(axes, display(entry.image[..., channel], float(whites[channel])), entry.image.shape[:2])
        axes.set_title(channel_name(channel, channels), fontsize=9)
    first = first_channel(scan)
    _grey(panels[channels], display(entry.image[..., first], float(whites[first])), entry.image.shape[:2])
    _outline(panels[channels], entry.mask, TRUTH, "-")
    panels[channels].set_title("no mask" if entry.mask is None else "mask", fontsize=9)
    figure.suptitle(f"{scan.scan_id}, slice {slice_index}", fontsize=10, x=0.01, ha="left")
    return figure


@drawn
def transformed(images: Sequence[Floats], masks: Sequence[Floats], titles: Sequence[str]) -> Figure:
    """What the network sees of a slice: planes (H, W) in network units, the mask's half share as outline.

    All planes share one grey scale, that of the first.
    """
    figure, panels = _panels(len(images))
    low, high = np.quantile(images[0], [0.01, 0.999])
    for axes, image, mask, title in zip(panels, images, masks, titles, strict=False):
        height, width = image.shape
        axes.imshow(image, cmap="gray", vmin=low, vmax=high, extent=(0, width, height, 0))
        _outline(axes, (np.asarray(mask) >= 0.5).astype(np.uint8), TRUTH, "-")
        axes.set_title(title, fontsize=9)
    return figure


def _panels(count: int, columns: int = COLUMNS, side: float = _SIDE) -> tuple[Figure, list[Axes]]:
    columns = min(columns, max(count, 1))
    rows = max(1, -(-count // columns))
    figure = Figure(figsize=(side * columns, (side + 0.35) * rows + 0.3))
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes in grid.flat:
        axes.set_axis_off()
    return figure, list(grid.flat)


def _draw_slice(axes: Axes, scored: PredictedScan, slice_index: int, white: float) -> None:
    entry = slice_of(scored.scan, slice_index)
    _grey(axes, display(entry.image[..., first_channel(scored.scan)], white), entry.image.shape[:2])
    predicted = scored.predicted.get(slice_index)
    _outline(axes, entry.mask, TRUTH, "-")
    _outline(axes, predicted.mask if predicted else None, PREDICTION, (0, (4, 2)))


def _grey(axes: Axes, plane: Pixels, shape: tuple[int, ...]) -> None:
    height, width = shape
    axes.imshow(plane, cmap="gray", vmin=0, vmax=255, extent=(0, width, height, 0))


def _outline(axes: Axes, mask: SliceMask | None, colour: str, dashes: Dashes) -> None:
    # One artist for all lines: a mask of noise has thousands.
    lines = LineCollection(outline_points(mask), colors=colour, linestyles=[dashes], linewidths=1.2)
    axes.add_collection(lines, autolim=False)


def _legend(figure: Figure, *, predicted: bool) -> None:
    lines = [Line2D([], [], color=TRUTH, label="truth")]
    if predicted:
        lines.append(Line2D([], [], color=PREDICTION, linestyle=(0, (4, 2)), label="prediction"))
    figure.legend(handles=lines, loc="outside lower left", ncols=2)
