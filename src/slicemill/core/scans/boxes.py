"""The part of each slice that is head, not air, as a box of the network's input.

Air is what is dark in every channel, by the rule of `core.profiles.doubts`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from slicemill.core.profiles.statistics import statistics
from slicemill.core.scans.scan import Scan
from slicemill.types import SliceImage

#: Air is darker than this share of the brightest channel's p99, in every channel.
DARK_SHARE = 0.1
#: Pixels that are not air which make a row or column part of the head: fewer are noise.
_LEAST_PIXELS = 3
#: Pixels of the network's input around the head, and what sides of a box are multiples of.
MARGIN, STEP = 8, 32
#: A scan whose head covers less than this share of it has unusual intensities: its boxes are not trusted.
_LEAST_HEAD = 0.05


@dataclass(frozen=True)
class Box:
    """Rows `top` to `bottom` and columns `left` to `right` of the network's input, the ends excluded."""

    top: int
    bottom: int
    left: int
    right: int

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.bottom - self.top, self.right - self.left


def scan_boxes(scan: Scan, size: int) -> list[Box | None]:
    """The box of each slice in a network's input of `size` x `size` pixels; None for a slice of air.

    Whole slices, for all of a scan, where the boxes can't be trusted: if `size` is no multiple of `STEP`, or
    if what is not air covers less than a twentieth of the scan.
    """
    full = Box(0, size, 0, size)
    if not scan.slices or size % STEP:
        return [full] * len(scan.slices)
    counts = np.sum([source.histogram for source in scan.slices], axis=0)
    dark = DARK_SHARE * float(statistics(counts).p99.max())
    heads = [source.image.max(axis=-1) > dark for source in scan.slices]
    if np.mean([head.mean() for head in heads]) < _LEAST_HEAD:
        return [full] * len(heads)
    return [_box(head, size) for head in heads]


def _box(head: SliceImage, size: int) -> Box | None:
    rows = np.flatnonzero(head.sum(axis=1) >= _LEAST_PIXELS)
    columns = np.flatnonzero(head.sum(axis=0) >= _LEAST_PIXELS)
    if not len(rows) or not len(columns):
        return None
    top, bottom = _side(int(rows[0]), int(rows[-1]) + 1, head.shape[0], size)
    left, right = _side(int(columns[0]), int(columns[-1]) + 1, head.shape[1], size)
    return Box(top, bottom, left, right)


def _side(first: int, end: int, length: int, size: int) -> tuple[int, int]:
    """A span of source pixels as one of the network's, with its margin, on the grid of `STEP`."""
    low = max(0, first * size // length - MARGIN) // STEP * STEP
    high = min(size, -(-end * size // length) + MARGIN)
    return low, -(-high // STEP) * STEP
