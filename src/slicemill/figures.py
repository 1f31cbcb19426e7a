"""Figures for notebooks: the report's, as matplotlib objects, and `show` to put them under a cell."""

from __future__ import annotations

from typing import TYPE_CHECKING

from slicemill.pages.figures.charts import count_histogram, distribution, grouped, share_bars
from slicemill.pages.figures.data import SCAN_STATISTICS, grey_values, heat_map, scan_statistic
from slicemill.pages.figures.overlay import largest_slice
from slicemill.pages.figures.results import dice_by_volume, reliability, roc, volumes
from slicemill.pages.figures.slices import channel_views, outlined, slice_grid, transformed
from slicemill.pages.figures.training import learning_rate, loss, speed, validation
from slicemill.pages.notebook import show

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from slicemill.core.scans.scan import Scan

__all__ = [
    "SCAN_STATISTICS",
    "augmentation",
    "channel_views",
    "count_histogram",
    "dice_by_volume",
    "distribution",
    "grey_values",
    "grouped",
    "heat_map",
    "largest_slice",
    "learning_rate",
    "loss",
    "outlined",
    "reliability",
    "roc",
    "scan_statistic",
    "share_bars",
    "show",
    "slice_grid",
    "speed",
    "transformed",
    "validation",
    "volumes",
]


def augmentation(scan: Scan, size: int, draws: int = 11, seed: int = 0) -> Figure:
    """What the network sees of a scan's slice with the largest tumour: unchanged, then `draws` augmented.

    `size`: rows and columns of the network's input, in pixels. Image and mask move together.
    """
    from slicemill.core.scans.scan import FLAIR
    from slicemill.model.loading.preview import augmented

    images, masks = augmented(scan, largest_slice(scan), size, draws, seed)
    titles = ["unchanged", *(f"draw {draw}" for draw in range(1, len(images)))]
    return transformed(list(images[:, FLAIR]), list(masks), titles)
