"""Survival curves by Kaplan and Meier, with the patients at risk below them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from slicemill.core.results.survival_result import SurvivalCurve
from slicemill.pages.figures.style import BLUE, SOFT, VERMILLION, drawn

_COLOURS = (BLUE, VERMILLION)
_DASHES = ("-", "--")
#: Times at which the patients at risk are counted, 0 among them.
_COUNTS = 5


@drawn
def survival_curves(curves: Mapping[str, SurvivalCurve], time: str) -> Figure:
    """A curve a group with its 95 % interval; a tick where a patient was last seen. At most two groups.

    `time`: name of the time column. Below stand the patients at risk, group under group.
    """
    figure = Figure(figsize=(5.4, 4.1))
    axes, counts = figure.subplots(2, 1, sharex=True, height_ratios=[4, 1])
    for (name, curve), colour, dashes in zip(curves.items(), _COLOURS, _DASHES, strict=False):
        _draw(axes, curve, colour, dashes, f"{name} ({curve.events} of {curve.patients} died)")
    axes.set(ylabel="alive", ylim=(0, 1.03))
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1))
    longest = max(curve.times[-1] for curve in curves.values())
    times = np.linspace(0, longest, _COUNTS)
    for place, (curve, colour) in enumerate(zip(curves.values(), _COLOURS, strict=False)):
        for moment in times:
            text = str(at_risk(curve, moment))
            counts.text(moment, -place, text, ha="center", va="center", fontsize=9, color=colour)
    counts.set(xlabel=time, ylabel="at risk", yticks=[], ylim=(-len(curves) + 0.4, 0.6))
    counts.spines["left"].set_visible(False)
    counts.grid(visible=False)
    counts.set_xlim(-longest * 0.03, longest * 1.03)
    return figure


def _draw(axes: Axes, curve: SurvivalCurve, colour: str, dashes: str, label: str) -> None:
    times = np.array([0.0, *curve.times])
    alive, low, high = (np.array([1.0, *values]) for values in (curve.survival, curve.low, curve.high))
    axes.step(times, alive, where="post", color=colour, linestyle=dashes, linewidth=1.6, label=label)
    axes.fill_between(times, low, high, step="post", color=colour, alpha=0.15, linewidth=0)
    last_seen = np.array([0, *curve.censored]) > 0
    axes.plot(times[last_seen], alive[last_seen], "|", color=colour, markersize=7)
    axes.tick_params(labelcolor=SOFT)


def at_risk(curve: SurvivalCurve, time: float) -> int:
    """Patients who were still followed just before `time`."""
    later = [number for moment, number in zip(curve.times, curve.at_risk, strict=True) if moment >= time]
    return later[0] if later else 0
