"""What a lake keeps of a finished scan: one small JSON object with the scan's rows, written last."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any

import numpy as np

from slicemill.io.lake.rows import QuarantineRow, ScanRow, TotalsRow, columns, from_columns
from slicemill.schemas import SCHEMA_VERSION

COMMIT_SUFFIX = ".json"


@dataclass(frozen=True)
class ScanCommit:
    """The rows of a finished scan. One without a usable slice has neither scan nor totals.

    `sources` are the files that it was read from, with the SHA-256 of the bytes that were read, and `outputs`
    those that were written, relative to the lake. `token` is of the lock under which that was done. All three
    stay in the commit: the tables do not have them.
    """

    scan: ScanRow | None
    totals: TotalsRow | None
    quarantine: tuple[QuarantineRow, ...]
    sources: Mapping[str, str] = field(default_factory=dict)
    outputs: Mapping[str, str] = field(default_factory=dict)
    token: str = ""

    @property
    def rows(self) -> ScanCommit:
        """What the tables take of it: hashes of a long scan's files would fill the driver's memory."""
        return ScanCommit(self.scan, self.totals, self.quarantine)

    def to_json(self) -> dict[str, Any]:
        """The commit as JSON holds it."""
        return {
            "schema_version": SCHEMA_VERSION,
            "scan": None if self.scan is None else _plain(columns(self.scan)),
            "totals": None if self.totals is None else _plain(columns(self.totals)),
            "quarantine": [_plain(columns(row)) for row in self.quarantine],
            "sources": dict(self.sources),
            "outputs": dict(self.outputs),
            "token": self.token,
        }

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> ScanCommit:
        """The commit that JSON holds: dates, times and hashes typed again."""
        scan, totals = stored["scan"], stored["totals"]
        if scan is not None:
            day = scan["scan_date"]
            scan = from_columns(ScanRow, {**scan, "scan_date": date.fromisoformat(day) if day else None})
        if totals is not None:
            hashes = [bytes.fromhex(text) for text in totals["image_hashes"]]
            totals = from_columns(TotalsRow, {**totals, "image_hashes": hashes})
        quarantine = tuple(
            from_columns(QuarantineRow, {**row, "time": datetime.fromisoformat(row["time"])})
            for row in stored["quarantine"]
        )
        sources, outputs = stored.get("sources", {}), stored.get("outputs", {})
        return cls(scan, totals, quarantine, sources, outputs, stored.get("token", ""))


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, date | datetime):
        return value.isoformat()
    return value
