"""Figures of a lake: grey values, slices, tumours."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from slicemill.core.scans.scan import SEQUENCES
from slicemill.io.lake.rows import ScanRow
from slicemill.io.lake.tables import ChannelTotals
from slicemill.pages.figures.charts import steps
from slicemill.pages.figures.style import COUNT_MAP, DASHES, SERIES, drawn, new_figure

#: Statistics of a scan's channel that are drawn, and their names.
SCAN_STATISTICS = {
    "min": "Smallest value of a scan",
    "max": "Largest value of a scan",
    "mean": "Mean of a scan",
    "std": "Standard deviation of a scan",
}


def channel_name(channel: int, channels: int) -> str:
    """Sequence of a channel in the public data set's order, or the channel's number."""
    return SEQUENCES[channel] if channels == len(SEQUENCES) else f"channel {channel}"


@drawn
def scan_statistic(scans: Sequence[ScanRow], statistic: str) -> Figure:
    """Histogram over scans of one of `SCAN_STATISTICS`, a line per channel."""
    figure, axes = new_figure()
    by_scan: list[Sequence[float]] = [getattr(scan, statistic) for scan in scans]
    channels = max(map(len, by_scan))
    values = [
        [numbers[channel] for numbers in by_scan if len(numbers) > channel] for channel in range(channels)
    ]
    low, high = min(map(min, values)), max(map(max, values))
    edges = np.linspace(low, high if high > low else low + 1, 25)
    for channel, sample in enumerate(values):
        counts = np.histogram(sample, edges)[0].astype(np.float64)
        steps(axes, edges, counts, **_line(channel, channels))
    axes.set(xlabel=f"{SCAN_STATISTICS[statistic]} (grey value)", ylabel="Number of scans")
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=3)
    return figure


@drawn
def grey_values(channels: Sequence[ChannelTotals]) -> Figure:
    """Share of pixels at each of the 256 grey values, a line per channel, logarithmic."""
    figure, axes = new_figure()
    for totals in channels:
        counts = np.asarray(totals.histogram, np.float64)
        share = counts / max(counts.sum(), 1.0)
        steps(axes, np.linspace(-0.5, 255.5, 257), share, **_line(totals.channel, len(channels)))
    axes.set(xlabel="Grey value", ylabel="Share of pixels", yscale="log", xlim=(-2, 257))
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=3)
    return figure


def _line(channel: int, channels: int) -> dict[str, object]:
    return {
        "color": SERIES[channel % len(SERIES)],
        "linestyle": DASHES[channel % len(DASHES)],
        "label": channel_name(channel, channels),
    }


@drawn
def heat_map(grid: Sequence[Sequence[int]]) -> Figure:
    """Where tumours lie: tumour pixels counted on a grid over the slice, axes (row, column), row 0 on top."""
    figure, axes = new_figure(width=5.2, height=4.4)
    counts = np.asarray(grid, np.float64)
    total = max(counts.sum(), 1.0)
    grid_image = axes.imshow(
        counts / total, cmap=COUNT_MAP, origin="upper", extent=(0, 100, 100, 0), interpolation="nearest"
    )
    axes.set(xlabel="Column (% of the slice's width)", ylabel="Row (% of the slice's height)")
    axes.grid(visible=False)
    bar = figure.colorbar(grid_image, ax=axes, shrink=0.9)
    bar.set_label("Share of all tumour pixels")
    bar.ax.yaxis.set_major_formatter(lambda value, _: f"{value:.2%}")
    return figure
