"""PNGs of a run under way: its curves, and a few validation slices with truth and prediction.

They are drawn here, by the rank that trains: the driver waits for the ranks, and the report reads what they
left. Figures are matplotlib objects of their own, drawn without pyplot and its global state.
"""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from slicemill.core.evaluation.dice import dice
from slicemill.core.scans.scan import FLAIR
from slicemill.core.training.plan import TrainPlan
from slicemill.core.training.records import EpochLine
from slicemill.model.loading.loader import LabelledSlice, read_labelled
from slicemill.types import SliceMask

#: Validation scans that give an example.
EXAMPLES = 6

#: Okabe and Ito's sky blue and orange, as in the report: told apart with any kind of colour vision.
TRUTH, PREDICTION = "#56b4e9", "#e69f00"

#: Curves: the line of metrics.jsonl, and its name on the axis.
_CURVES = {
    "train_loss": "training loss",
    "val_loss": "validation loss",
    "val_dice": "mean validation Dice",
    "val_accuracy": "validation accuracy",
    "val_auroc": "area under the ROC curve",
    "learning_rate": "learning rate",
    "slices_per_second": "slices/s",
}


def example_slices(plan: TrainPlan) -> list[LabelledSlice]:
    """Of the first validation scans in order of their ids, each one's slice with the largest tumour."""
    files = sorted(file for share in plan.validation for file in share)[:EXAMPLES]
    return [
        max(read_labelled([file]), key=lambda entry: int(entry.mask.sum(dtype=np.int64))) for file in files
    ]


def draw_examples(slices: Sequence[LabelledSlice], predicted: Sequence[SliceMask], title: str) -> bytes:
    """PNG of slices in FLAIR, grey values stretched to their 99.5th percentile, outlined.

    `predicted`: uint8 0/1 or bool masks, axes (H, W), one a slice.
    """
    columns = min(3, len(slices))
    rows = -(-len(slices) // columns)
    figure = Figure(figsize=(3.2 * columns, 3.5 * rows + 0.6), layout="constrained", facecolor="white")
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes in grid:
        axes.set_axis_off()
    for axes, entry, mask in zip(grid, slices, predicted, strict=False):
        _draw_slice(axes, entry, mask)
    figure.suptitle(f"{title}\ntruth solid blue, prediction dashed orange", fontsize=9)
    return _png(figure)


def _draw_slice(axes: Axes, entry: LabelledSlice, predicted: SliceMask) -> None:
    # Both input layouts have the slice's own FLAIR there.
    flair = entry.image[..., FLAIR]
    axes.imshow(flair, cmap="gray", vmin=0, vmax=max(float(np.percentile(flair, 99.5)), 1.0))
    for mask, colour, style in ((entry.mask, TRUTH, "solid"), (predicted, PREDICTION, "dashed")):
        if mask.any():
            axes.contour(mask, levels=[0.5], colors=colour, linestyles=style, linewidths=1.4)
    overlap = dice(np.asarray(predicted, dtype=bool)[None], entry.mask[None])
    axes.set_title(f"{entry.scan_id}, slice {entry.slice_index}\nDice of the slice {overlap:.2f}", fontsize=9)


def draw_curves(history: Sequence[EpochLine]) -> bytes:
    """PNG of what the lines of metrics.jsonl say, over epochs."""
    lines = [line.to_json() for line in history]
    series = {
        name: [(line["epoch"], line[name]) for line in lines if line.get(name) is not None]
        for name in _CURVES
    }
    names = [name for name, points in series.items() if points]
    columns = min(2, len(names))
    rows = -(-len(names) // columns)
    figure = Figure(figsize=(5 * columns, 2.8 * rows), layout="constrained", facecolor="white")
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes in grid[len(names) :]:
        axes.set_axis_off()
    for axes, name in zip(grid, names, strict=False):
        axes.plot(*zip(*series[name], strict=True), marker="o", markersize=3, color="#0072b2")
        axes.set(xlabel="epoch", ylabel=_CURVES[name])
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(alpha=0.4)
    return _png(figure)


def _png(figure: Figure) -> bytes:
    sink = io.BytesIO()
    figure.savefig(sink, format="png", dpi=100)
    return sink.getvalue()
