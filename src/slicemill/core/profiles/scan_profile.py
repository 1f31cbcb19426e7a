"""Everything that is known about one scan's pixels, gathered in one pass over its slices."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain, groupby, islice, pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from slicemill.core.profiles.doubts import scan_doubts
from slicemill.core.profiles.sequences import missing_sequences, slice_channels
from slicemill.core.profiles.statistics import Statistics, statistics
from slicemill.core.scans.scan import Scan
from slicemill.types import Histograms, SliceMask

#: Rows and columns of the grid on which tumour positions are counted.
HEAT_MAP_SIDE = 64
#: Missing slice numbers that are named.
_MOST_GAPS = 1000


@dataclass(frozen=True)
class TumourGeometry:
    """A tumour's area, box (top, left, bottom, right; the last two exclusive) and centroid, in pixels.

    Without a tumour the box is empty, and the centroid None.
    """

    area: int
    box: tuple[int, ...] = ()
    row: float | None = None
    column: float | None = None


def tumour_geometry(mask: SliceMask) -> TumourGeometry:
    """Where the tumour of a 0/1 mask, axes (H, W), lies."""
    if not mask.any():
        return TumourGeometry(0)
    by_row, by_column = mask.sum(axis=1, dtype=np.int64), mask.sum(axis=0, dtype=np.int64)
    area = int(by_row.sum())
    (rows,), (columns,) = np.nonzero(by_row), np.nonzero(by_column)
    box = (int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1)
    row, column = (float(counts @ np.arange(len(counts)) / area) for counts in (by_row, by_column))
    return TumourGeometry(area, box, row, column)


def heat_map(masks: Iterable[SliceMask]) -> npt.NDArray[np.int64]:
    """Tumour pixels counted on a grid laid over the slice, whatever its size: int64, (64, 64)."""
    grid = np.zeros((HEAT_MAP_SIDE, HEAT_MAP_SIDE), np.int64)
    for shape, group in groupby(masks, key=np.shape):
        counts = np.zeros(shape, np.int64)
        for mask in group:
            if mask.any():
                counts += mask
        rows, columns = np.nonzero(counts)
        cells = (rows * HEAT_MAP_SIDE // shape[0], columns * HEAT_MAP_SIDE // shape[1])
        np.add.at(grid, cells, counts[rows, columns])
    return grid


def slice_gaps(indices: Sequence[int]) -> list[int]:
    """The first 1,000 slice numbers that are missing between the lowest and the highest of `indices`."""
    missing = chain.from_iterable(range(low + 1, high) for low, high in pairwise(sorted(indices)))
    return list(islice(missing, _MOST_GAPS))


@dataclass(frozen=True)
class ChannelProfile:
    """A row of `schemas.PROFILE`: one channel of one slice. `statistics` are its numbers by column name."""

    scan_id: str
    slice_index: int
    channel: int
    statistics: dict[str, float]
    zero_share: float
    histogram: Histograms
    copy_of: int | None
    blank: bool
    tumour: TumourGeometry | None

    def row(self) -> dict[str, Any]:
        """The row, by the names of its columns."""
        tumour = self.tumour or TumourGeometry(0)
        own = {name: value for name, value in vars(self).items() if name not in ("statistics", "tumour")}
        return (
            own
            | self.statistics
            | {
                "tumour_pixels": tumour.area if self.tumour else None,
                "tumour_box": tumour.box,
                "tumour_row": tumour.row,
                "tumour_column": tumour.column,
            }
        )


@dataclass(frozen=True)
class ScanColumns:
    """The columns of `schemas.SCANS` that come from pixels."""

    slices: int
    labelled_slices: int
    tumour_slices: int
    tumour_fraction: float
    tumour_voxel_fraction: float
    tumour_pixels: int
    rejected_masks: int
    height: int
    width: int
    statistics: Statistics
    missing_sequences: list[str]
    slice_gaps: list[int]
    blank_slices: list[int]
    copied_channel_slices: int
    implausible_masks: list[int]
    doubts: list[str]

    def row(self) -> dict[str, Any]:
        """The columns, by their names."""
        own = {name: value for name, value in vars(self).items() if name != "statistics"}
        return own | {name: values.tolist() for name, values in self.statistics.by_name.items()}


@dataclass(frozen=True)
class ScanTotals:
    """A row of `schemas.TOTALS`."""

    scan_id: str
    patient_id: str
    histogram: Histograms
    heat_map: npt.NDArray[np.int64]
    image_hashes: list[bytes]

    def row(self) -> dict[str, Any]:
        """The row, by the names of its columns."""
        return dict(vars(self))


class ScanProfile:
    """A scan's histograms, what its channels hold, and where its tumours lie: the source of its rows."""

    def __init__(self, scan: Scan) -> None:
        self.scan = scan
        self.histograms: Histograms = np.stack([slice_.histogram for slice_ in scan.slices])
        self.channels = [slice_channels(slice_) for slice_ in scan.slices]
        self.tumours = [
            tumour_geometry(slice_.mask) if slice_.mask is not None else None for slice_ in scan.slices
        ]

    def channel_profiles(self) -> list[ChannelProfile]:
        """One for each slice and channel."""
        numbers = statistics(self.histograms)
        return [
            ChannelProfile(
                scan_id=self.scan.scan_id,
                slice_index=slice_.slice_index,
                channel=channel,
                statistics=numbers.at(position, channel),
                zero_share=float(histogram[0] / histogram.sum()),
                histogram=histogram,
                copy_of=self.channels[position].copy_of[channel],
                blank=self.channels[position].constant[channel],
                tumour=self.tumours[position],
            )
            for position, slice_ in enumerate(self.scan.slices)
            for channel, histogram in enumerate(self.histograms[position])
        ]

    def scan_columns(self) -> ScanColumns:
        """The scan's numbers and findings."""
        slices = self.scan.slices
        areas = [tumour.area for tumour in self.tumours if tumour is not None]
        tumour_slices, tumour_pixels = sum(area > 0 for area in areas), sum(areas)
        height, width = slices[0].image.shape[:2]
        doubts = scan_doubts(self.scan, self.channels)
        return ScanColumns(
            slices=len(slices),
            labelled_slices=len(areas),
            tumour_slices=tumour_slices,
            tumour_fraction=tumour_slices / len(areas) if areas else 0.0,
            tumour_voxel_fraction=tumour_pixels / (len(areas) * height * width) if areas else 0.0,
            tumour_pixels=tumour_pixels,
            rejected_masks=sum(slice_.mask_status == "rejected" for slice_ in slices),
            height=height,
            width=width,
            statistics=statistics(self.histograms.sum(axis=0)),
            missing_sequences=missing_sequences(self.channels),
            slice_gaps=slice_gaps([slice_.slice_index for slice_ in slices]),
            blank_slices=[
                slice_.slice_index
                for slice_, content in zip(slices, self.channels, strict=True)
                if content.blank
            ],
            copied_channel_slices=sum(
                any(of is not None for of in content.copy_of) for content in self.channels
            ),
            implausible_masks=list(doubts.implausible_masks),
            doubts=list(doubts.sentences),
        )

    def totals(self) -> ScanTotals:
        """The scan's part in the lake's totals."""
        masks = [slice_.mask for slice_ in self.scan.slices if slice_.mask is not None]
        return ScanTotals(
            scan_id=self.scan.scan_id,
            patient_id=self.scan.patient_id,
            histogram=self.histograms.sum(axis=0).ravel(),
            heat_map=heat_map(masks).ravel(),
            image_hashes=[
                slice_.image_hash
                for slice_, content in zip(self.scan.slices, self.channels, strict=True)
                if not content.blank
            ],
        )
