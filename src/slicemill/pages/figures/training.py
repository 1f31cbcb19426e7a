"""Figures of a training run: what changed from epoch to epoch."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from slicemill.core.training.records import ClassificationMetrics, EpochLine, RateSearch, SegmentationMetrics
from slicemill.core.training.selection import published_epoch
from slicemill.pages.figures.style import BLUE, ORANGE, VERMILLION, drawn, new_figure

Epochs = Sequence[EpochLine]

#: What a curve shows of an epoch; None where it is not known.
Value = Callable[[EpochLine], float | None]


@drawn
def loss(epochs: Epochs) -> Figure:
    """Mean training and validation loss of each epoch; validation is without augmentation."""
    figure = _curve(epochs, lambda line: line.train_loss, "Loss")
    axes = figure.axes[0]
    axes.lines[0].set_label("training")
    numbers, losses = _points(epochs, lambda line: line.validation.loss)
    if numbers:
        axes.plot(numbers, losses, "s--", color=BLUE, markersize=4, label="validation")
        axes.legend(loc="upper right")
    return figure


@drawn
def learning_rate(epochs: Epochs) -> Figure:
    """Learning rate at the start of each epoch."""
    return _curve(epochs, lambda line: line.learning_rate, "Learning rate")


@drawn
def speed(epochs: Epochs) -> Figure:
    """Slices a second of each epoch's training."""
    figure = _curve(epochs, lambda line: line.slices_per_second, "Training speed (slices/s)")
    figure.axes[0].set_ylim(bottom=0)
    return figure


def validation(epochs: Epochs) -> Figure | None:
    """What validation said of each epoch; None without a validation part."""
    if any(_accuracy(line) is not None for line in epochs):
        return slice_validation(epochs)
    if any(_dice(line) is not None for line in epochs):
        return validation_dice(epochs)
    return None


def _accuracy(line: EpochLine) -> float | None:
    return line.validation.accuracy if isinstance(line.validation, ClassificationMetrics) else None


def _auroc(line: EpochLine) -> float | None:
    return line.validation.auroc if isinstance(line.validation, ClassificationMetrics) else None


def _dice(line: EpochLine) -> float | None:
    return line.validation.dice if isinstance(line.validation, SegmentationMetrics) else None


def _points(epochs: Epochs, value: Value) -> tuple[list[int], list[float]]:
    points = [(line.epoch, number) for line in epochs if (number := value(line)) is not None]
    return [epoch for epoch, _ in points], [number for _, number in points]


@drawn
def validation_dice(epochs: Epochs) -> Figure:
    """Mean volumetric Dice of the validation scans, their middle half, and the epoch that was published."""
    figure, axes = new_figure()
    numbers, means = _points(epochs, _dice)
    spans = [
        list(line.validation.dice_by_scan.values())
        for line in epochs
        if isinstance(line.validation, SegmentationMetrics) and line.validation.dice is not None
    ]
    if all(spans):
        low, high = (np.array([np.quantile(values, share) for values in spans]) for share in (0.25, 0.75))
        axes.fill_between(
            numbers, low, high, color=BLUE, alpha=0.18, linewidth=0, label="middle half of the scans"
        )
    axes.plot(
        numbers,
        means,
        "o-",
        color=BLUE,
        markersize=4,
        label="mean of the scans",
    )
    best = epochs[published_epoch(epochs) - 1]
    dice = _dice(best)
    axes.plot(
        [best.epoch],
        [np.nan if dice is None else dice],
        "D",
        color=VERMILLION,
        markersize=8,
        label=f"published: {best.score:.3f} in epoch {best.epoch}",
    )
    axes.set(ylabel="Validation Dice", ylim=(-0.02, 1.02))
    _epoch_axis(axes)
    axes.legend(loc="lower right")
    return figure


@drawn
def slice_validation(epochs: Epochs) -> Figure:
    """A classifier's accuracy and area under its ROC curve on the validation slices, epoch by epoch."""
    figure, axes = new_figure()
    lines = (
        (_accuracy, "accuracy", BLUE, "o-"),
        (_auroc, "area under the ROC curve", ORANGE, "s--"),
    )
    for value, name, colour, mark in lines:
        axes.plot(*_points(epochs, value), mark, color=colour, markersize=4, label=name)
    axes.set(ylabel="Of the validation slices", ylim=(-0.02, 1.02))
    _epoch_axis(axes)
    axes.legend(loc="lower right")
    return figure


@drawn
def rate_finder(rates: RateSearch) -> Figure:
    """Loss against the learning rate that was tried (L. N. Smith, 2017), and the rate that is suggested."""
    figure, axes = new_figure()
    axes.plot(rates.learning_rate, rates.loss, color=BLUE, linewidth=1.8)
    suggested = rates.suggested
    if suggested is not None:
        axes.axvline(
            suggested, color=VERMILLION, linestyle="--", linewidth=1.6, label=f"suggested: {suggested:.2g}"
        )
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1))
    axes.set(xlabel="Learning rate", ylabel="Training loss, smoothed", xscale="log")
    return figure


def _curve(epochs: Epochs, value: Value, name: str) -> Figure:
    figure, axes = new_figure()
    axes.plot(*_points(epochs, value), "o-", color=ORANGE, markersize=4)
    axes.set(ylabel=name)
    _epoch_axis(axes)
    return figure


def _epoch_axis(axes: Axes) -> None:
    axes.set_xlabel("Epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
