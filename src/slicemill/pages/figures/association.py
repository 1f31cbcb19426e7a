"""Figures of associations: a forest plot of effects, and features by predicted against true masks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from slicemill.pages.figures.charts import identity_line, merge_small
from slicemill.pages.figures.style import BLUE, INK, SOFT, VERMILLION, drawn, new_figure


@drawn
def forest(effects: Sequence[tuple[str, float, float, float]]) -> Figure:
    """A line a test: its name, epsilon squared, and the ends of the interval; the strongest on top."""
    figure, axes = _forest(effects)
    axes.set(xlabel="epsilon squared", xlim=(0, None))
    return figure


@drawn
def hazards(ratios: Sequence[tuple[str, float, float, float]]) -> Figure:
    """A line a feature: its name, hazard ratio, and the ends of the interval, on a logarithmic axis."""
    figure, axes = _forest(ratios)
    axes.axvline(1, color=SOFT, linewidth=1, linestyle=(0, (4, 3)))
    axes.set(xlabel="hazard ratio per standard deviation", xscale="log")
    ticks = [tick for tick in (0.1, 0.2, 0.5, 1, 2, 5, 10) if _between(tick, ratios)]
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks], minor=False)
    axes.set_xticks([], minor=True)
    return figure


def _between(tick: float, ratios: Sequence[tuple[str, float, float, float]]) -> bool:
    return min(low for *_, low, _ in ratios) / 1.5 < tick < max(high for *_, high in ratios) * 1.5


def _forest(effects: Sequence[tuple[str, float, float, float]]) -> tuple[Figure, Axes]:
    figure, axes = new_figure(height=1.0 + 0.26 * len(effects))
    ordered = sorted(effects, key=lambda effect: effect[1])
    for place, (_, value, low, high) in enumerate(ordered):
        axes.plot([low, high], [place, place], color=INK, linewidth=1.2, solid_capstyle="butt")
        axes.plot([value], [place], "s", color=BLUE, markersize=4)
    axes.set_yticks(
        range(len(ordered)), [name for name, *_ in ordered], fontsize=9 if len(ordered) < 10 else 7
    )
    axes.set_ylim(-0.7, len(ordered) - 0.3)
    axes.grid(visible=False, axis="y")
    return figure, axes


@drawn
def agreement(pairs: Sequence[tuple[float, float]], name: str) -> Figure:
    """A point a scan: the feature by the predicted mask over the feature by the true one."""
    figure, axes = new_figure()
    ours, truth = zip(*pairs, strict=True)
    axes.plot(truth, ours, "o", color=BLUE, markersize=4, alpha=0.65, markeredgewidth=0)
    identity_line(axes, min(*ours, *truth), max(*ours, *truth))
    axes.set(xlabel=f"{name}, true mask", ylabel="predicted mask")
    return figure


@drawn
def boxes(groups: Mapping[str, Sequence[float]], name: str) -> Figure:
    """A box a group, from quartile to quartile with the median, and a point a patient."""
    merged = merge_small(groups)
    figure, axes = new_figure(height=1.1 + 0.42 * len(merged))
    places = range(len(merged))
    random = np.random.default_rng(0)
    for place, values in zip(places, merged.values(), strict=True):
        heights = place + random.uniform(-0.2, 0.2, len(values))
        axes.plot(values, heights, "o", color=BLUE, markersize=4, alpha=0.5, markeredgewidth=0)
    axes.boxplot(
        list(merged.values()),
        positions=places,
        orientation="horizontal",
        widths=0.6,
        showfliers=False,
        boxprops={"color": INK},
        whiskerprops={"color": INK},
        capprops={"color": INK},
        medianprops={"color": VERMILLION, "linewidth": 2},
    )
    axes.set_yticks(places, [f"{group} ({len(values)})" for group, values in merged.items()])
    axes.set(xlabel=name, ylim=(len(merged) - 0.5, -0.5))
    axes.grid(visible=False, axis="y")
    return figure
