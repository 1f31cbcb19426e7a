"""Figures of associations: a forest plot of effects, and features by predicted against true masks."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure

from slicemill.pages.figures.charts import identity_line
from slicemill.pages.figures.style import BLUE, INK, drawn, new_figure


@drawn
def forest(effects: Sequence[tuple[str, float, float, float]]) -> Figure:
    """A line a test: its name, effect, and the ends of the interval; the strongest on top."""
    figure, axes = new_figure(height=1.0 + 0.26 * len(effects))
    ordered = sorted(effects, key=lambda effect: effect[1])
    for place, (_, value, low, high) in enumerate(ordered):
        axes.plot([low, high], [place, place], color=INK, linewidth=1.2, solid_capstyle="butt")
        axes.plot([value], [place], "s", color=BLUE, markersize=4)
    axes.set_yticks(range(len(ordered)), [name for name, *_ in ordered], fontsize=7)
    axes.set(xlabel="epsilon squared", xlim=(0, None), ylim=(-0.7, len(ordered) - 0.3))
    axes.grid(visible=False, axis="y")
    return figure


@drawn
def agreement(pairs: Sequence[tuple[float, float]], name: str) -> Figure:
    """A point a scan: the feature by the predicted mask over the feature by the true one."""
    figure, axes = new_figure()
    ours, truth = zip(*pairs, strict=True)
    axes.plot(truth, ours, "o", color=BLUE, markersize=4, alpha=0.65, markeredgewidth=0)
    identity_line(axes, min(*ours, *truth), max(*ours, *truth))
    axes.set(xlabel=f"{name}, true mask", ylabel="predicted mask")
    return figure
