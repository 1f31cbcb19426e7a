"""All rows of a lake's tables, and what is said of the lake as a whole."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from slicemill.core.profiles.lake_profile import summarise
from slicemill.core.scans.discovery import Discovery
from slicemill.core.scans.findings import folder_findings
from slicemill.io.lake.commits import COMMIT_SUFFIX, ScanCommit
from slicemill.io.lake.leftovers import remove_leftovers
from slicemill.io.lake.rows import QuarantineRow, ScanRow, TotalsRow, columns
from slicemill.io.places import Lake
from slicemill.io.raw.clinical import Clinical
from slicemill.io.storage.commits import list_commits
from slicemill.io.storage.fence import Fence


@dataclass(frozen=True)
class LakeContent:
    """The rows of the lake's tables, each sorted."""

    scans: tuple[ScanRow, ...]
    totals: tuple[TotalsRow, ...]
    quarantine: tuple[QuarantineRow, ...]

    @classmethod
    def of(cls, commits: Sequence[ScanCommit], outside: Iterable[QuarantineRow]) -> LakeContent:
        """The rows of all commits, and of problems outside any scan."""
        quarantine = [*outside, *(row for commit in commits for row in commit.quarantine)]
        return cls(
            tuple(sorted((c.scan for c in commits if c.scan), key=lambda row: row.scan_id)),
            tuple(sorted((c.totals for c in commits if c.totals), key=lambda row: row.scan_id)),
            tuple(sorted(quarantine, key=lambda row: (row.uri, row.reason))),
        )

    def profile(self, discovery: Discovery, clinical: Clinical) -> dict[str, Any]:
        """The lake's profile for JSON: totals, findings, and what did not join."""
        profile = summarise([columns(row) for row in self.scans], [columns(row) for row in self.totals])
        profile["findings"] |= folder_findings(self.scans, discovery)
        profile["quarantined"] = len(self.quarantine)
        profile["ignored_files"] = discovery.ignored
        if clinical.rows:
            patients = {row.patient_id for row in self.scans}
            profile["clinical"] = {
                "patients_without_row": sorted(patients - clinical.by_patient(patients).keys()),
                "rows_without_patient": clinical.unjoined(patients),
            }
        return profile

    def remove_leftovers(self, fence: Fence) -> int:
        """Remove what lies in the lake and belongs to none of its scans; return the number of files."""
        settled = {row.scan_id for row in self.scans}
        committed = {commit.scan_id for commit in list_commits(Lake(fence.home).commits, COMMIT_SUFFIX)}
        return remove_leftovers(fence, self.scans, committed - settled)
