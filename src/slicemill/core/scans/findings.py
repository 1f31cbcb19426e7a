"""Findings about scans and folders that need no pixels; `profile.summarise` has those that do."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from slicemill.core.scans.discovery import Discovery


class Labels(Protocol):
    """What is asked of a scan's row."""

    @property
    def scan_id(self) -> str:
        """Name of the scan."""

    @property
    def slices(self) -> int:
        """Slices in the lake."""

    @property
    def labelled_slices(self) -> int:
        """Slices with a usable mask."""


def unlabelled(scans: Iterable[Labels]) -> dict[str, int]:
    """Slices without a usable mask, by scan id, of every scan that has any."""
    return {
        scan.scan_id: scan.slices - scan.labelled_slices
        for scan in scans
        if scan.labelled_slices < scan.slices
    }


def folder_findings(scans: Iterable[Labels], discovery: Discovery) -> dict[str, object]:
    """Findings by name, ready for JSON: `unlabelled_scans`, `unlabelled_slices`, and those of folders."""
    rows = list(scans)
    counts = unlabelled(rows)
    bare = {scan.scan_id for scan in rows if not scan.labelled_slices}
    return {
        "unlabelled_scans": sorted(bare),
        "unlabelled_slices": {scan_id: count for scan_id, count in counts.items() if scan_id not in bare},
        "unmatched_folders": [scan.scan_id for scan in discovery.unmatched],
        "other_formats": discovery.other_formats,
    }
