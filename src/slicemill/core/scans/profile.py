"""Statistics of slices, scans and a whole lake, all taken from 256-bin histograms of the decoded pixels.

Percentiles are the smallest grey value at which the cumulative share reaches the percentile (numpy's
`inverted_cdf`); std is the population's.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from slicemill.core.scans.scan import FLAIR, SEQUENCES, Scan, Slice
from slicemill.schemas import STATISTICS
from slicemill.types import Floats, Histograms, SliceMask

#: Rows and columns of the grid on which tumour positions are counted.
HEAT_MAP_SIDE = 64
_GREY = np.arange(256, dtype=np.float64)
_PERCENTILES = {"p01": 0.01, "p10": 0.10, "p50": 0.50, "p90": 0.90, "p99": 0.99}
#: A sequence is missing if its channel copies FLAIR in more than this share of the scan's slices.
_MISSING_SHARE = 0.5


def statistics(histogram: Histograms) -> dict[str, Floats]:
    """`schemas.STATISTICS` of histograms, axes (..., 256): float64, axes (...), in grey values.

    An empty histogram gives 0 everywhere.
    """
    counts = histogram.astype(np.float64)
    total = np.maximum(counts.sum(-1), 1.0)
    mean = counts @ _GREY / total
    variance = np.maximum(counts @ _GREY**2 / total - mean**2, 0.0)
    cumulative = np.cumsum(histogram, axis=-1)
    occupied = histogram > 0
    found: dict[str, Floats] = {
        "min": np.argmax(occupied, axis=-1).astype(np.float64),
        "max": np.where(occupied.any(-1), 255.0 - np.argmax(occupied[..., ::-1], axis=-1), 0.0),
        "mean": mean,
        "std": np.sqrt(variance),
    }
    for name, share in _PERCENTILES.items():
        rank = np.ceil(share * cumulative[..., -1:]).astype(np.int64)
        found[name] = np.argmax(cumulative >= np.maximum(rank, 1), axis=-1).astype(np.float64)
    return {name: found[name] for name in STATISTICS}


def tumour_geometry(mask: SliceMask) -> tuple[int, list[int], float | None, float | None]:
    """Area, box (top, left, bottom, right; the last two exclusive) and centroid (row, column), in pixels."""
    if not mask.any():
        return 0, [], None, None
    by_row, by_column = mask.sum(axis=1, dtype=np.int64), mask.sum(axis=0, dtype=np.int64)
    area = int(by_row.sum())
    (rows,), (columns,) = np.nonzero(by_row), np.nonzero(by_column)
    box = [int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1]
    centroid = [float(counts @ np.arange(len(counts)) / area) for counts in (by_row, by_column)]
    return area, box, centroid[0], centroid[1]


def heat_map(masks: Iterable[SliceMask]) -> npt.NDArray[np.int64]:
    """Tumour pixels counted on a grid laid over the slice, whatever its size: int64, (64, 64)."""
    grid = np.zeros((HEAT_MAP_SIDE, HEAT_MAP_SIDE), np.int64)
    for mask in masks:
        if mask.any():
            rows, columns = np.nonzero(mask)
            cells = (
                rows * HEAT_MAP_SIDE // mask.shape[0] * HEAT_MAP_SIDE
                + columns * HEAT_MAP_SIDE // mask.shape[1]
            )
            grid += np.bincount(cells, minlength=HEAT_MAP_SIDE**2).reshape(grid.shape)
    return grid


def copied_channels(one: Slice, counted: Histograms) -> list[int | None]:
    """For each channel the lower channel that it repeats, or None; `counted` are its histograms (C, 256)."""
    image = one.image
    found: list[int | None] = [None] * image.shape[-1]
    for channel in range(1, image.shape[-1]):
        for lower in range(channel):
            # Channels with other histograms can't be equal, and comparing pixels is the slow part.
            alike = found[channel] is None and np.array_equal(counted[channel], counted[lower])
            if alike and np.array_equal(image[..., channel], image[..., lower]):
                found[channel] = lower
    return found


def missing_sequences(copies: Sequence[Sequence[int | None]]) -> list[str]:
    """Sequences of a scan that are copies of FLAIR; `copies` has `copied_channels` of each slice."""
    if not copies or len(copies[0]) != len(SEQUENCES):
        return []
    like_flair = np.zeros(len(SEQUENCES))
    for of in copies:
        like_flair[0] += of[FLAIR] == 0
        like_flair[2] += of[2] == FLAIR or (of[2] == 0 and of[FLAIR] == 0)
    share = like_flair / len(copies)
    return [SEQUENCES[channel] for channel in (0, 2) if share[channel] > _MISSING_SHARE]


def scan_missing_sequences(scan: Scan) -> list[str]:
    """Sequences of a scan that are copies of FLAIR, from its pixels: the scan has no such series."""
    return missing_sequences([copied_channels(one, one.histogram) for one in scan.slices])


def slice_gaps(indices: Sequence[int]) -> list[int]:
    """The first 1,000 slice numbers that are missing between the lowest and the highest of `indices`."""
    numbers = sorted(indices)
    missing = itertools.chain.from_iterable(range(low + 1, high) for low, high in itertools.pairwise(numbers))
    return list(itertools.islice(missing, 1000))


class ScanProfile:
    """Everything that is known about one scan's pixels, gathered in one pass over its slices."""

    def __init__(self, scan: Scan) -> None:
        self.scan = scan
        self.histograms: Histograms = np.stack([one.histogram for one in scan.slices])
        self.blank: list[bool] = (np.count_nonzero(self.histograms.sum(axis=1), axis=-1) == 1).tolist()
        self.copies = [
            [None] * one.image.shape[-1] if blank else copied_channels(one, counted)
            for one, counted, blank in zip(scan.slices, self.histograms, self.blank, strict=True)
        ]
        self.geometry = [tumour_geometry(one.mask) if one.mask is not None else None for one in scan.slices]

    def slice_rows(self) -> list[dict[str, Any]]:
        """Rows of `schemas.PROFILE`, one per slice and channel."""
        numbers = statistics(self.histograms)
        rows = []
        for position, one in enumerate(self.scan.slices):
            area, box, row, column = self.geometry[position] or (None, [], None, None)
            for channel in range(one.image.shape[-1]):
                histogram = self.histograms[position, channel]
                rows.append(
                    {
                        "scan_id": self.scan.scan_id,
                        "slice_index": one.slice_index,
                        "channel": channel,
                        **{name: float(values[position, channel]) for name, values in numbers.items()},
                        "zero_share": float(histogram[0] / histogram.sum()),
                        "histogram": histogram,
                        "copy_of": self.copies[position][channel],
                        "blank": bool(np.count_nonzero(histogram) == 1),
                        "tumour_pixels": area,
                        "tumour_box": box,
                        "tumour_row": row,
                        "tumour_column": column,
                    }
                )
        return rows

    def scan_columns(self) -> dict[str, Any]:
        """The columns of `schemas.SCANS` that come from pixels."""
        slices = self.scan.slices
        areas = [geometry[0] for geometry in self.geometry if geometry is not None]
        tumour_slices, tumour_pixels = sum(area > 0 for area in areas), sum(areas)
        height, width = slices[0].image.shape[:2]
        indices = [one.slice_index for one in slices]
        summed = statistics(self.histograms.sum(axis=0))
        return {
            "slices": len(slices),
            "labelled_slices": len(areas),
            "tumour_slices": tumour_slices,
            "tumour_fraction": tumour_slices / len(areas) if areas else 0.0,
            "tumour_voxel_fraction": tumour_pixels / (len(areas) * height * width) if areas else 0.0,
            "tumour_pixels": tumour_pixels,
            "rejected_masks": sum(one.mask_status == "rejected" for one in slices),
            "height": height,
            "width": width,
            **{name: values.tolist() for name, values in summed.items()},
            "missing_sequences": missing_sequences(self.copies),
            "slice_gaps": slice_gaps(indices),
            "blank_slices": [one.slice_index for one, blank in zip(slices, self.blank, strict=True) if blank],
            "copied_channel_slices": sum(any(of is not None for of in copies) for copies in self.copies),
        }

    def totals_row(self) -> dict[str, Any]:
        """Row of `schemas.TOTALS`."""
        masks = [one.mask for one in self.scan.slices if one.mask is not None]
        return {
            "scan_id": self.scan.scan_id,
            "patient_id": self.scan.patient_id,
            "histogram": self.histograms.sum(axis=0).ravel(),
            "heat_map": heat_map(masks).ravel(),
            "image_hashes": [
                one.image_hash for one, blank in zip(self.scan.slices, self.blank, strict=True) if not blank
            ],
        }


def summarise(scans: Sequence[Mapping[str, Any]], totals: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The lake's totals and findings from the rows of its scans and totals tables, ready for JSON."""
    labelled = sum(scan["labelled_slices"] for scan in scans)
    tumour = sum(scan["tumour_slices"] for scan in scans)
    heat = np.sum([row["heat_map"] for row in totals], axis=0) if totals else np.zeros(HEAT_MAP_SIDE**2, int)
    return {
        "patients": len({scan["patient_id"] for scan in scans}),
        "scans": len(scans),
        "slices": sum(scan["slices"] for scan in scans),
        "labelled_slices": labelled,
        "tumour_slices": tumour,
        "healthy_slices": labelled - tumour,
        "tumour_fraction": tumour / labelled if labelled else 0.0,
        "tumour_pixels": sum(scan["tumour_pixels"] for scan in scans),
        "channels": _channel_totals(totals),
        "institutions": _by_institution(scans),
        "heat_map": np.reshape(heat, (HEAT_MAP_SIDE, HEAT_MAP_SIDE)).tolist(),
        "findings": {
            "missing_sequences": {
                scan["scan_id"]: list(scan["missing_sequences"])
                for scan in scans
                if len(scan["missing_sequences"])
            },
            "slice_gaps": {
                scan["scan_id"]: list(scan["slice_gaps"]) for scan in scans if len(scan["slice_gaps"])
            },
            "blank_slices": {
                scan["scan_id"]: list(scan["blank_slices"]) for scan in scans if len(scan["blank_slices"])
            },
            "copied_channel_slices": sum(scan["copied_channel_slices"] for scan in scans),
            "rejected_masks": {
                scan["scan_id"]: scan["rejected_masks"] for scan in scans if scan["rejected_masks"]
            },
            "equal_images_across_patients": equal_images(totals),
        },
    }


def _channel_totals(totals: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    sizes = {len(row["histogram"]) // 256 for row in totals}
    if len(sizes) != 1:
        return []
    summed = np.sum([row["histogram"] for row in totals], axis=0).reshape(-1, 256)
    numbers = statistics(summed)
    return [
        {
            "channel": channel,
            "sequence": SEQUENCES[channel] if channel < len(SEQUENCES) else None,
            **{name: float(values[channel]) for name, values in numbers.items()},
            "zero_share": float(summed[channel, 0] / summed[channel].sum()),
            "histogram": summed[channel].tolist(),
        }
        for channel in range(len(summed))
    ]


def _by_institution(scans: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    grouped: dict[str, list[Mapping[str, Any]]] = {}
    for scan in scans:
        grouped.setdefault(scan["institution"] or "unknown", []).append(scan)
    return {
        name: {
            "patients": len({scan["patient_id"] for scan in group}),
            "scans": len(group),
            "slices": sum(scan["slices"] for scan in group),
            "tumour_slices": sum(scan["tumour_slices"] for scan in group),
            "labelled_slices": sum(scan["labelled_slices"] for scan in group),
            "mean": np.mean([scan["mean"] for scan in group], axis=0).tolist(),
            "std": np.mean([scan["std"] for scan in group], axis=0).tolist(),
        }
        for name, group in sorted(grouped.items())
    }


def equal_images(totals: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """Groups of scan ids of different patients that share at least one slice, pixel for pixel."""
    seen: dict[bytes, set[tuple[str, str]]] = {}
    for row in totals:
        for image_hash in row["image_hashes"]:
            seen.setdefault(image_hash, set()).add((row["patient_id"], row["scan_id"]))
    groups = {
        tuple(sorted(scan_id for _, scan_id in owners))
        for owners in seen.values()
        if len({patient_id for patient_id, _ in owners}) > 1
    }
    return [list(group) for group in sorted(groups)]
