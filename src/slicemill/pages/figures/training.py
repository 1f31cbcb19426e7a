"""Figures of a training run: what changed from epoch to epoch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from slicemill.core.training.selection import published_epoch
from slicemill.pages.figures.style import BLUE, ORANGE, VERMILLION, drawn, new_figure

Epochs = Sequence[Mapping[str, Any]]


@drawn
def loss(epochs: Epochs) -> Figure:
    """Mean training loss of each epoch."""
    return _curve(epochs, "train_loss", "Training loss")


@drawn
def learning_rate(epochs: Epochs) -> Figure:
    """Learning rate at the start of each epoch."""
    return _curve(epochs, "learning_rate", "Learning rate")


@drawn
def speed(epochs: Epochs) -> Figure:
    """Slices a second of each epoch's training."""
    figure = _curve(epochs, "slices_per_second", "Training speed (slices/s)")
    figure.axes[0].set_ylim(bottom=0)
    return figure


def validation(epochs: Epochs) -> Figure | None:
    """What validation said of each epoch; None without a validation part."""
    if any(row.get("val_accuracy") is not None for row in epochs):
        return slice_validation(epochs)
    if any(row.get("val_dice") is not None for row in epochs):
        return validation_dice(epochs)
    return None


@drawn
def validation_dice(epochs: Epochs) -> Figure:
    """Mean volumetric Dice of the validation scans, their middle half, and the epoch that was kept."""
    figure, axes = new_figure()
    scored = [row for row in epochs if row.get("val_dice") is not None]
    numbers = [row["epoch"] for row in scored]
    spread = [list((row.get("val_dice_by_scan") or {}).values()) for row in scored]
    if all(spread):
        low, high = (np.array([np.quantile(values, share) for values in spread]) for share in (0.25, 0.75))
        axes.fill_between(
            numbers, low, high, color=BLUE, alpha=0.18, linewidth=0, label="middle half of the scans"
        )
    axes.plot(
        numbers,
        [row["val_dice"] for row in scored],
        "o-",
        color=BLUE,
        markersize=4,
        label="mean of the scans",
    )
    kept = epochs[published_epoch(epochs) - 1]
    axes.plot(
        [kept["epoch"]],
        [kept["val_dice"]],
        "D",
        color=VERMILLION,
        markersize=8,
        label=f"kept: {kept['val_dice']:.3f} in epoch {kept['epoch']}",
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
        ("val_accuracy", "accuracy", BLUE, "o-"),
        ("val_auroc", "area under the ROC curve", ORANGE, "s--"),
    )
    for key, name, colour, mark in lines:
        there = [row for row in epochs if row.get(key) is not None]
        axes.plot(
            [row["epoch"] for row in there],
            [row[key] for row in there],
            mark,
            color=colour,
            markersize=4,
            label=name,
        )
    axes.set(ylabel="Of the validation slices", ylim=(-0.02, 1.02))
    _epoch_axis(axes)
    axes.legend(loc="lower right")
    return figure


@drawn
def rate_finder(rates: Mapping[str, Any]) -> Figure:
    """Loss against the learning rate that was tried (L. N. Smith, 2017), and the rate that is suggested."""
    figure, axes = new_figure()
    axes.plot(rates["learning_rate"], rates["loss"], color=BLUE, linewidth=1.8)
    suggested = rates.get("suggested")
    if suggested is not None:
        axes.axvline(
            suggested, color=VERMILLION, linestyle="--", linewidth=1.6, label=f"suggested: {suggested:.2g}"
        )
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1))
    axes.set(xlabel="Learning rate", ylabel="Training loss, smoothed", xscale="log")
    return figure


def _curve(epochs: Epochs, key: str, name: str) -> Figure:
    figure, axes = new_figure()
    there = [row for row in epochs if row.get(key) is not None]
    axes.plot([row["epoch"] for row in there], [row[key] for row in there], "o-", color=ORANGE, markersize=4)
    axes.set(ylabel=name)
    _epoch_axis(axes)
    return figure


def _epoch_axis(axes: Axes) -> None:
    axes.set_xlabel("Epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
