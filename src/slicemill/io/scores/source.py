"""A scan to score: where its slices come from, and which manifest entry it will have."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Protocol

from slicemill.core.scans.discovery import ScanTask
from slicemill.core.scans.scan import Scan
from slicemill.io.lake.reader import read_lake_scan
from slicemill.io.lake.rows import ScanRow
from slicemill.io.raw.scan_reader import read_scan, unchanged
from slicemill.types import Spacing, Uri

#: What became of a scan; a worker that lacks its device or model stops.
SCORED, CHANGED, FAILED, STOPPED = "scored", "changed", "failed", "stopped"


class ScanSource(Protocol):
    """Where a scan's slices come from."""

    def read(self, max_pixels: int) -> Scan | None:
        """The scan's checked slices; None if it is no longer what was listed."""


@dataclass(frozen=True)
class RawSource:
    """A folder of raw slices."""

    folder: ScanTask

    def read(self, max_pixels: int) -> Scan | None:
        """The folder's slices, decoded and checked; None if it changed since it was listed."""
        scan = read_scan(self.folder, max_pixels)
        return scan if unchanged(self.folder) else None


@dataclass(frozen=True)
class LakeSource:
    """A row of a lake's scans table."""

    lake: Uri
    row: ScanRow

    def read(self, max_pixels: int) -> Scan | None:
        """The scan as ingest stored it."""
        return read_lake_scan(self.lake, self.row)


@dataclass(frozen=True)
class ScoreTask:
    """One scan to score: its source, the size that work is shared by, and the manifest entry's key.

    `slices` are those listed, before any is checked. `spacing` is None where it is not known. `stale` are
    manifest entries that the new one replaces.
    """

    scan_id: str
    fingerprint: str
    key: str
    size: int
    slices: int
    source: ScanSource
    spacing: Spacing | None = None
    stale: tuple[Uri, ...] = ()

    def read(self, max_pixels: int) -> Scan | None:
        """The scan with its spacing; None if it is no longer what was listed."""
        scan = self.source.read(max_pixels)
        return scan and dataclasses.replace(scan, spacing=self.spacing)


@dataclass(frozen=True)
class ScanOutcome:
    """What became of a scan, and why if it was not scored."""

    scan_id: str
    state: str
    reason: str | None = None
