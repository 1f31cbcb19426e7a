"""A lake as its readers see it: its small tables, and any scan's pixels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from slicemill.core.scans.scan import Scan
from slicemill.errors import InputError
from slicemill.io import storage
from slicemill.io.lake.card import require_lake
from slicemill.io.lake.reader import read_lake_scan
from slicemill.io.lake.rows import QuarantineRow, ScanRow, from_columns
from slicemill.io.lake.splits import Split, read_split, split_names
from slicemill.io.parquet import read_small_or_empty
from slicemill.io.places import Lake
from slicemill.io.storage.uri import display
from slicemill.schemas import QUARANTINE, SCANS
from slicemill.types import Uri


@dataclass(frozen=True)
class ChannelTotals:
    """Pixels of each grey value in one channel, over all slices of a lake: 256 counts."""

    channel: int
    histogram: Sequence[int]


@dataclass(frozen=True)
class LakeTotals:
    """What ingest sums up over a lake.

    `channels` is empty if scans differ in their channels. `heat_map`: tumour pixels on a grid over the slice,
    rows from the top. `shared_images`: groups of scans of different patients that share a slice.
    """

    channels: tuple[ChannelTotals, ...]
    heat_map: Sequence[Sequence[int]]
    shared_images: Sequence[Sequence[str]]

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> LakeTotals:
        """The totals of a lake's profile.json."""
        channels = (ChannelTotals(row["channel"], row["histogram"]) for row in stored["channels"])
        findings = stored.get("findings", {})
        return cls(tuple(channels), stored["heat_map"], findings.get("equal_images_across_patients", ()))


@dataclass(frozen=True)
class LakeTables:
    """A lake's scans, clinical columns, totals, quarantine and splits.

    `home` is the lake's canonical URI. `clinical` has each column's value by patient id, None where it is not
    known. `totals` is None if they were never published. `scan_pattern` is how
    the lake's scan folders are named, None in a lake that does not say so.
    """

    home: Uri
    scans: tuple[ScanRow, ...]
    clinical: Mapping[str, Mapping[str, Any]]
    totals: LakeTotals | None
    quarantine: tuple[QuarantineRow, ...]
    splits: tuple[Split, ...]
    scan_pattern: str | None = None

    @property
    def places(self) -> Lake:
        """Where the lake's tables lie, for engines that read them by themselves."""
        return Lake(self.home)

    def scan(self, scan_id: str) -> Scan:
        """One scan's slices: uint8 images (H, W, C), uint8 0/1 masks (H, W). Raises InputError if unknown."""
        row = next((row for row in self.scans if row.scan_id == scan_id), None)
        if row is None:
            raise InputError(
                f"the lake {display(self.home)} has no scan {scan_id}",
                expected=f"one of its {len(self.scans)} scans",
                found=scan_id,
            )
        return read_lake_scan(self.home, row)


def read_lake(home: Uri) -> LakeTables:
    """Read the small tables of the lake at a canonical URI.

    Raises InputError if there is no lake, LakeVersionError for one of another schema version.
    """
    require_lake(home)
    scans = read_small_or_empty(Lake(home).scans, SCANS)
    stored_scans = scans.to_pylist()
    summary = Lake(home).profile_summary
    quarantine = read_small_or_empty(Lake(home).quarantine, QUARANTINE).to_pylist()
    return LakeTables(
        home,
        tuple(from_columns(ScanRow, stored) for stored in stored_scans),
        {
            name: {stored["patient_id"]: stored[name] for stored in stored_scans}
            for name in scans.column_names
            if name not in SCANS.names
        },
        LakeTotals.from_json(storage.read_json(summary)) if storage.exists(summary) else None,
        tuple(from_columns(QuarantineRow, stored) for stored in quarantine),
        tuple(read_split(home, name) for name in split_names(home)),
        storage.read_json(Lake(home).card).get("scan_pattern"),
    )
