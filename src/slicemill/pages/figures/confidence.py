"""Figures of confidence: reliability of voxels, and expected against true Dice."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure

from slicemill.core.evaluation.calibration import ReliabilityBin
from slicemill.core.evaluation.triage import BAD_BELOW, EXPECTED_BELOW
from slicemill.pages.figures.charts import RASTER_FROM, identity_line
from slicemill.pages.figures.style import BLUE, INK, drawn, new_figure


@drawn
def voxel_reliability(bins: Sequence[ReliabilityBin]) -> Figure:
    """Share of tumour among voxels of like probability; on the line the probabilities hold."""
    figure, axes = new_figure(width=5.2, height=4.4)
    used_bins = [each for each in bins if each.voxels]
    middles = [(each.low + each.high) / 2 for each in used_bins]
    axes.plot(middles, [each.share for each in used_bins], "o-", color=BLUE, markersize=5, linewidth=1.4)
    identity_line(axes, 0, 1)
    axes.set(
        xlabel="Probability of tumour, by the model",
        ylabel="Voxels that are tumour (share)",
        xlim=(-0.02, 1.02),
        ylim=(-0.02, 1.02),
    )
    axes.set_aspect("equal")
    axes.legend(loc="upper left")
    return figure


@drawn
def expected_and_true_dice(expected: Sequence[float], true: Sequence[float]) -> Figure:
    """A point a scan: the Dice that the model expects, and the one that it reached."""
    figure, axes = new_figure(width=5.2, height=4.4)
    axes.plot(
        expected,
        true,
        "o",
        color=BLUE,
        markersize=5,
        alpha=0.7,
        markeredgewidth=0,
        rasterized=len(true) > RASTER_FROM,
    )
    identity_line(axes, 0, 1)
    axes.axvline(EXPECTED_BELOW, color=INK, linewidth=1, linestyle=":", label="to look at first, left of it")
    axes.axhline(BAD_BELOW, color=INK, linewidth=1, linestyle="-.", label="a bad mask, below it")
    axes.set(
        xlabel="Expected Dice of the scan", ylabel="Dice of the scan", xlim=(-0.03, 1.03), ylim=(-0.03, 1.03)
    )
    axes.set_aspect("equal")
    axes.legend(loc="upper left", fontsize=8)
    return figure
