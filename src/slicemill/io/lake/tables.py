"""A lake as its readers see it: its small tables, and any scan's pixels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from slicemill.core.scans.scan import Scan
from slicemill.errors import InputError
from slicemill.io import storage
from slicemill.io.lake.card import require_lake
from slicemill.io.lake.reader import read_lake_scan
from slicemill.io.lake.splits import Split, read_split
from slicemill.io.parquet import read_small_or_empty
from slicemill.io.places import Lake
from slicemill.io.storage.uri import display
from slicemill.schemas import QUARANTINE, SCANS
from slicemill.types import Uri

Row = Mapping[str, Any]


@dataclass(frozen=True)
class LakeTables:
    """A lake's scans with their clinical columns, its totals, quarantine and splits.

    `home` is the lake's canonical URI. `totals` is None if they were never published. `scan_pattern` is the
    regular expression that the lake's scan folders were named by, None in a lake that does not say so.
    """

    home: Uri
    scans: tuple[Row, ...]
    clinical: tuple[str, ...]
    totals: Row | None
    quarantine: tuple[Row, ...]
    splits: tuple[Split, ...]
    scan_pattern: str | None = None

    @property
    def places(self) -> Lake:
        """Where the lake's tables lie, for engines that read them by themselves."""
        return Lake(self.home)

    def scan(self, scan_id: str) -> Scan:
        """One scan's slices: uint8 images (H, W, C), uint8 0/1 masks (H, W). Raises InputError if unknown."""
        row = next((row for row in self.scans if row["scan_id"] == scan_id), None)
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
    clinical = tuple(name for name in scans.column_names if name not in SCANS.names)
    summary = Lake(home).profile_summary
    return LakeTables(
        home,
        tuple(scans.to_pylist()),
        clinical,
        storage.read_json(summary) if storage.exists(summary) else None,
        tuple(read_small_or_empty(Lake(home).quarantine, QUARANTINE).to_pylist()),
        tuple(read_split(home, name) for name in _split_names(home)),
        storage.read_json(Lake(home).card).get("scan_pattern"),
    )


def _split_names(home: Uri) -> list[str]:
    files = storage.list_or_none(Lake(home).splits)
    names = [
        file.uri.rpartition("/")[2].removesuffix(".json") for file in files if file.uri.endswith(".json")
    ]
    return sorted(name for name in names if not name.startswith("."))
