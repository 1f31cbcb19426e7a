"""Figures of a result: volumes, small tumours, slices found and missed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from slicemill.core.evaluation.roc import roc_curve
from slicemill.pages.figures.charts import RASTER_FROM, identity_line
from slicemill.pages.figures.style import BLUE, INK, VERMILLION, drawn, new_figure
from slicemill.types import Floats

#: Below this many voxels the logarithmic axes of volumes are linear, so that 0 has a place.
_LINEAR_TO = 100.0


@drawn
def volumes(true: Sequence[int], predicted: Sequence[int]) -> Figure:
    """Predicted against true tumour volume, a point per scan, in voxels."""
    figure, axes = new_figure(width=5.2, height=4.4)
    _points(axes, true, predicted)
    high = max([*true, *predicted, 1]) * 1.6
    identity_line(axes, 0, high)
    _volume_scale(axes, "x", high)
    _volume_scale(axes, "y", high)
    axes.set(xlabel="True tumour volume (voxels)", ylabel="Predicted tumour volume (voxels)")
    axes.set_aspect("equal")
    axes.legend(loc="upper left")
    return figure


@drawn
def dice_by_volume(true: Sequence[int], dice: Sequence[float]) -> Figure:
    """Dice against true tumour volume, a point per scan: small tumours are the hard ones."""
    figure, axes = new_figure()
    _points(axes, true, dice)
    _volume_scale(axes, "x", max([*true, 1]) * 1.6)
    axes.set(xlabel="True tumour volume (voxels)", ylabel="Dice", ylim=(-0.03, 1.03))
    return figure


def _points(axes: Axes, x: Sequence[float], y: Sequence[float]) -> None:
    axes.plot(
        x, y, "o", color=BLUE, markersize=5, alpha=0.7, markeredgewidth=0, rasterized=len(x) > RASTER_FROM
    )


def _volume_scale(axes: Axes, side: str, high: float) -> None:
    if side == "x":
        axes.set_xscale("symlog", linthresh=_LINEAR_TO, linscale=0.5)
        axes.set_xlim(-_LINEAR_TO * 0.12, high)
    else:
        axes.set_yscale("symlog", linthresh=_LINEAR_TO, linscale=0.5)
        axes.set_ylim(-_LINEAR_TO * 0.12, high)


@drawn
def roc(truth: npt.NDArray[np.bool_], score: Floats, rates: tuple[float, float]) -> Figure:
    """ROC of the slices: does a slice's highest probability tell whether it shows a tumour?

    `rates` are the false and true positive rate of the masks as they were written.
    """
    figure, axes = new_figure(width=5.2, height=4.4)
    false_rate, true_rate, area = roc_curve(truth, score)
    axes.plot(false_rate, true_rate, color=BLUE, linewidth=1.8, label=f"area {area:.3f}")
    axes.plot([rates[0]], [rates[1]], "D", color=VERMILLION, markersize=7, label="at the threshold used")
    axes.plot([0, 1], [0, 1], color=INK, linewidth=1, linestyle=(0, (4, 3)), label="chance")
    axes.set(
        xlabel="Healthy slices with a false alarm (share)",
        ylabel="Tumour slices found (share)",
        xlim=(-0.02, 1.02),
        ylim=(-0.02, 1.02),
    )
    axes.set_aspect("equal")
    axes.legend(loc="lower right")
    return figure


@drawn
def reliability(truth: npt.NDArray[np.bool_], score: Floats) -> Figure:
    """Calibration of the slices: share with tumour among slices of like highest probability, in ten bins."""
    figure, axes = new_figure(width=5.2, height=4.4)
    place = np.clip((score * 10).astype(int), 0, 9)
    counts = np.bincount(place, minlength=10)
    occupied = counts > 0
    share = np.bincount(place, weights=truth, minlength=10)[occupied] / counts[occupied]
    mean = np.bincount(place, weights=score, minlength=10)[occupied] / counts[occupied]
    sizes = 20 + 300 * counts[occupied] / counts.max()
    axes.scatter(mean, share, s=sizes, color=BLUE, alpha=0.75, linewidth=0, label="slices, by their number")
    for x, y, count in zip(mean, share, counts[occupied], strict=True):
        axes.annotate(f"{count:,}", (x, y), textcoords="offset points", xytext=(8, -12), fontsize=8)
    identity_line(axes, 0, 1)
    axes.set(
        xlabel="Highest tumour probability of the slice",
        ylabel="Slices that show a tumour (share)",
        xlim=(-0.03, 1.06),
        ylim=(-0.06, 1.03),
    )
    axes.set_aspect("equal")
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2)
    return figure
