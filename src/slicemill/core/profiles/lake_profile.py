"""The totals and findings of a lake, from the rows of its scans and totals tables."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from slicemill.core.profiles.scan_profile import HEAT_MAP_SIDE
from slicemill.core.profiles.statistics import statistics
from slicemill.core.scans.scan import SEQUENCES


@dataclass(frozen=True)
class ScanFacts:
    """What a lake's summary takes from a row of `schemas.SCANS`.

    Columns that earlier releases did not write are empty there.
    """

    scan_id: str
    patient_id: str
    institution: str | None
    slices: int
    labelled_slices: int
    tumour_slices: int
    tumour_pixels: int
    rejected_masks: int
    mean: Sequence[float]
    std: Sequence[float]
    missing_sequences: Sequence[str]
    slice_gaps: Sequence[int]
    blank_slices: Sequence[int]
    copied_channel_slices: int
    implausible_masks: Sequence[int] | None = None
    doubts: Sequence[str] | None = None

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> ScanFacts:
        """The facts of a scan from its row."""
        return cls(**{field.name: row[field.name] for field in fields(cls) if field.name in row})


def summarise(scans: Sequence[Mapping[str, Any]], totals: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """A lake's totals and findings from the rows of its scans and totals tables, ready for JSON."""
    facts = [ScanFacts.of(row) for row in scans]
    labelled = sum(scan.labelled_slices for scan in facts)
    tumour = sum(scan.tumour_slices for scan in facts)
    heat = _sum((row["heat_map"] for row in totals), HEAT_MAP_SIDE**2)
    return {
        "patients": len({scan.patient_id for scan in facts}),
        "scans": len(facts),
        "slices": sum(scan.slices for scan in facts),
        "labelled_slices": labelled,
        "tumour_slices": tumour,
        "healthy_slices": labelled - tumour,
        "tumour_fraction": tumour / labelled if labelled else 0.0,
        "tumour_pixels": sum(scan.tumour_pixels for scan in facts),
        "channels": _channel_totals([row["histogram"] for row in totals]),
        "institutions": _by_institution(facts),
        "heat_map": np.reshape(heat, (HEAT_MAP_SIDE, HEAT_MAP_SIDE)).tolist(),
        "findings": _findings(facts, totals),
    }


def _findings(scans: Sequence[ScanFacts], totals: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    def by_scan(values: Callable[[ScanFacts], Sequence[Any] | None]) -> dict[str, Any]:
        """Values of those scans that have any."""
        lists = {scan.scan_id: values(scan) for scan in scans}
        return {scan_id: list(items) for scan_id, items in lists.items() if items is not None and len(items)}

    return {
        "missing_sequences": by_scan(lambda scan: scan.missing_sequences),
        "slice_gaps": by_scan(lambda scan: scan.slice_gaps),
        "blank_slices": by_scan(lambda scan: scan.blank_slices),
        "copied_channel_slices": sum(scan.copied_channel_slices for scan in scans),
        "rejected_masks": {scan.scan_id: scan.rejected_masks for scan in scans if scan.rejected_masks},
        "implausible_masks": by_scan(lambda scan: scan.implausible_masks),
        "doubts": by_scan(lambda scan: scan.doubts),
        "equal_images_across_patients": equal_images(totals),
    }


def _channel_totals(histograms: Sequence[Sequence[int]]) -> list[dict[str, Any]]:
    """Statistics of each channel over the lake; none if its scans have different channels."""
    if len(set(map(len, histograms))) != 1:
        return []
    counts = _sum(histograms, len(histograms[0])).reshape(-1, 256)
    numbers = statistics(counts)
    return [
        {
            "channel": channel,
            "sequence": SEQUENCES[channel] if channel < len(SEQUENCES) else None,
            **numbers.at(channel),
            "zero_share": float(histogram[0] / histogram.sum()),
            "histogram": histogram.tolist(),
        }
        for channel, histogram in enumerate(counts)
    ]


def _sum(counts: Iterable[Sequence[int]], size: int) -> npt.NDArray[np.int64]:
    """Counts added up one by one: all of them side by side would not fit into memory."""
    total = np.zeros(size, np.int64)
    for row in counts:
        total += np.asarray(row)
    return total


def _by_institution(scans: Sequence[ScanFacts]) -> dict[str, dict[str, Any]]:
    grouped: dict[str, list[ScanFacts]] = {}
    for scan in scans:
        grouped.setdefault(scan.institution or "unknown", []).append(scan)
    return {
        name: {
            "patients": len({scan.patient_id for scan in group}),
            "scans": len(group),
            "slices": sum(scan.slices for scan in group),
            "tumour_slices": sum(scan.tumour_slices for scan in group),
            "labelled_slices": sum(scan.labelled_slices for scan in group),
            "mean": np.mean([scan.mean for scan in group], axis=0).tolist(),
            "std": np.mean([scan.std for scan in group], axis=0).tolist(),
        }
        for name, group in sorted(grouped.items())
    }


def equal_images(totals: Iterable[Mapping[str, Any]]) -> list[list[str]]:
    """Groups of scan ids of different patients that share at least one slice, pixel for pixel.

    `totals` are rows of `schemas.TOTALS`.
    """
    first: dict[bytes, tuple[str, str]] = {}
    # Few slices have a second owner, and a set for each of a million takes a quarter of a gigabyte.
    shared: dict[bytes, set[tuple[str, str]]] = {}
    for row in totals:
        owner = (row["patient_id"], row["scan_id"])
        for image_hash in row["image_hashes"]:
            if first.setdefault(image_hash, owner) != owner:
                shared.setdefault(image_hash, {first[image_hash]}).add(owner)
    groups = {
        tuple(sorted(scan_id for _, scan_id in sharing))
        for sharing in shared.values()
        if len({patient_id for patient_id, _ in sharing}) > 1
    }
    return [list(group) for group in sorted(groups)]
