"""Figures that any part of a report uses: distributions, groups side by side, curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from slicemill.core.evaluation.intervals import mean_interval
from slicemill.pages.figures.style import BLUE, GRID, INK, VERMILLION, colour, drawn, new_figure
from slicemill.types import Floats

#: Points that a group shows; of more, this many are drawn at random, by a fixed seed.
MAX_POINTS = 200
#: Groups that a figure shows; the smallest of more become one.
MAX_GROUPS = 12
OTHER_GROUPS = "all others"
#: Marks beyond which a layer of a figure is drawn as pixels.
RASTER_FROM = 1500

Groups = Mapping[str, Sequence[float]]


@drawn
def distribution(
    values: Sequence[float], name: str, units: str, limits: tuple[float, float] | None = None
) -> Figure:
    """Histogram of `values` with their mean and its 95% interval; `units` says what each value is of."""
    figure, axes = new_figure()
    sample = np.asarray(values, np.float64)
    low, high = limits if limits else (float(sample.min()), float(sample.max()))
    bins = np.linspace(low, high if high > low else low + 1, 21)
    axes.hist(sample, bins=bins.tolist(), color=BLUE, edgecolor="none", rwidth=0.92)
    mean = mean_interval(sample)
    if mean.low is not None and mean.high is not None:
        axes.axvspan(mean.low, mean.high, color=VERMILLION, alpha=0.22, linewidth=0)
    axes.axvline(mean.value, color=VERMILLION, linewidth=1.8, label=f"mean {mean.value:.3f} ({mean.ends(3)})")
    axes.set(xlabel=name, ylabel=f"Number of {units}")
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1))
    return figure


@drawn
def grouped(groups: Groups, name: str, limits: tuple[float, float] | None = None) -> Figure:
    """A point per value and the mean with its 95% interval, group under group.

    At most `MAX_GROUPS` groups, the largest; at most `MAX_POINTS` points of each.
    """
    merged = merge_small(groups)
    figure, axes = new_figure(height=1.1 + 0.42 * len(merged))
    rng = np.random.default_rng(0)
    for place, (group, values) in enumerate(merged.items()):
        sample = np.asarray(values, np.float64)
        points = sample if len(sample) <= MAX_POINTS else rng.choice(sample, MAX_POINTS, replace=False)
        heights = place + rng.uniform(-0.22, 0.22, len(points))
        axes.plot(
            points,
            heights,
            "o",
            color=colour(list(merged), group),
            markersize=4,
            alpha=0.65,
            markeredgewidth=0,
        )
        mean = mean_interval(sample)
        if mean.low is not None and mean.high is not None:
            axes.plot([mean.low, mean.high], [place, place], color=INK, linewidth=1.6, solid_capstyle="butt")
        axes.plot([mean.value], [place], "D", color=INK, markersize=5)
    axes.set_yticks(range(len(merged)), [f"{group} ({len(values)})" for group, values in merged.items()])
    axes.set(xlabel=name, ylim=(len(merged) - 0.5, -0.5))
    axes.grid(visible=False, axis="y")
    if limits:
        axes.set_xlim(limits)
    return figure


def group_caption(name: str, groups: Groups) -> str:
    """What `grouped` shows of scans, and what it left out."""
    words = f"{name} (scans in brackets): each scan, the mean, its 95% interval over scans."
    if len(groups) > MAX_GROUPS:
        words += f" The smallest of {len(groups)} groups are one."
    if any(len(values) > MAX_POINTS for values in merge_small(groups).values()):
        words += f" Of a group of more than {MAX_POINTS}, that many points are drawn, at random."
    return words


def merge_small(groups: Groups) -> dict[str, list[float]]:
    """Groups by name, at most `MAX_GROUPS`: the smallest of more are put together under `OTHER_GROUPS`."""
    if len(groups) <= MAX_GROUPS:
        return {name: list(groups[name]) for name in sorted(groups)}
    by_size = sorted(groups, key=lambda name: (-len(groups[name]), name))
    largest = sorted(by_size[: MAX_GROUPS - 1])
    remainder = [value for name in by_size[MAX_GROUPS - 1 :] for value in groups[name]]
    return {**{name: list(groups[name]) for name in largest}, OTHER_GROUPS: remainder}


@drawn
def share_bars(counts: Mapping[str, tuple[int, int]], name: str) -> Figure:
    """A bar per group: the share `part / whole`, with both numbers written beside it."""
    figure, axes = new_figure(height=1.1 + 0.42 * len(counts))
    shares = [part / total if total else 0.0 for part, total in counts.values()]
    axes.barh(range(len(counts)), shares, color=BLUE, height=0.62)
    for place, (share, (part, total)) in enumerate(zip(shares, counts.values(), strict=True)):
        axes.text(share, place, f" {share:.1%}  ({part:,} of {total:,})", va="center", fontsize=9)
    axes.set_yticks(range(len(counts)), list(counts))
    axes.set(xlabel=name, ylim=(len(counts) - 0.5, -0.5), xlim=(0, max([*shares, 0.01]) * 1.55))
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    axes.grid(visible=False, axis="y")
    return figure


@drawn
def count_histogram(values: Sequence[int], name: str, units: str) -> Figure:
    """Histogram of whole numbers, bins of whole numbers."""
    figure, axes = new_figure()
    low, high = min(values), max(values)
    step = max(1, -(-(high - low + 1) // 24))
    axes.hist(
        values, bins=[edge - 0.5 for edge in range(low, high + step + 1, step)], color=BLUE, rwidth=0.92
    )
    axes.set(xlabel=name, ylabel=f"Number of {units}")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    return figure


def identity_line(axes: Axes, low: float, high: float) -> None:
    """Where both axes have one value."""
    axes.plot([low, high], [low, high], color=INK, linewidth=1, linestyle=(0, (4, 3)), label="equal")


def steps(axes: Axes, edges: Floats, counts: Floats, **line: Any) -> None:
    """A histogram as an outline; counts has one value less than edges."""
    axes.stairs(counts, edges, linewidth=1.5, **line)
    axes.set_facecolor("none")
    axes.grid(color=GRID)
