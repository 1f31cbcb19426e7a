"""Figures of a study: its trials in time, what mattered, and score against each setting."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from slicemill.core.training.trials import TrialRow
from slicemill.pages.figures.style import BLUE, ORANGE, VERMILLION, drawn, new_figure

_SCORE = "Validation score"


@drawn
def history_figure(trials: Sequence[TrialRow]) -> Figure:
    """Score of each trial by its number, those given up apart, and the best so far."""
    figure, axes = new_figure()
    for state, colour, name in (("complete", BLUE, "finished"), ("pruned", ORANGE, "given up")):
        points = [trial for trial in trials if trial.state == state]
        if points:
            numbers = [trial.number for trial in points]
            scores = np.array([trial.score for trial in points], np.float64)
            axes.plot(numbers, scores, "o", color=colour, markersize=5, label=name)
    best = np.maximum.accumulate([trial.score for trial in trials if trial.score is not None])
    axes.step([trial.number for trial in trials], best, where="post", color=VERMILLION, label="best so far")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set(xlabel="Trial", ylabel=_SCORE)
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=3)
    return figure


@drawn
def importance_figure(importance: Mapping[str, float]) -> Figure:
    """Share of each setting in what makes good trials good."""
    figure, axes = new_figure(height=1.1 + 0.42 * max(1, len(importance)))
    names = sorted(importance, key=lambda name: importance[name])
    axes.barh(
        [name.replace("_", " ") for name in names],
        [importance[name] for name in names],
        color=BLUE,
        height=0.6,
    )
    if not names:
        axes.text(0.5, 0.5, "too few finished trials", transform=axes.transAxes, ha="center", va="center")
        axes.set_yticks([])
    axes.set(xlabel="Importance (PED-ANOVA)", xlim=(0, 1))
    axes.grid(visible=False, axis="y")
    return figure


@drawn
def slices_figure(trials: Sequence[TrialRow], names: Sequence[str], logarithmic: Collection[str]) -> Figure:
    """Score against each setting by itself, a point a trial."""
    columns = min(3, len(names))
    rows = -(-len(names) // columns)
    figure = Figure(figsize=(3.2 * columns, 2.8 * rows))
    panels = figure.subplots(rows, columns, squeeze=False, sharey=True).ravel()
    for axes, name in zip(panels, names, strict=False):
        _slice(axes, name, [trial for trial in trials if name in trial.settings])
        if name in logarithmic:
            axes.set_xscale("log")
    for axes in panels[len(names) :]:
        axes.remove()
    for row in range(rows):
        panels[row * columns].set_ylabel(_SCORE)
    return figure


def _slice(axes: Axes, name: str, trials: Sequence[TrialRow]) -> None:
    values = [trial.settings[name] for trial in trials]
    if any(isinstance(value, str | bool) or value is None for value in values):
        # Categories: words, in an order that stays the same.
        categories = sorted({str(value) for value in values})
        axes.set_xticks(range(len(categories)), categories, rotation=20, ha="right")
        axes.set_xlim(-0.5, len(categories) - 0.5)
        values = [categories.index(str(value)) for value in values]
    for state, colour in (("complete", BLUE), ("pruned", ORANGE)):
        points = [place for place, trial in enumerate(trials) if trial.state == state]
        scores = np.array([trials[place].score for place in points], np.float64)
        axes.plot([values[place] for place in points], scores, "o", color=colour, markersize=5, alpha=0.8)
    axes.set_xlabel(name.replace("_", " "))
