"""A lake's small tables as ingest keeps them: views of all commits, each written whole."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from slicemill.io import storage
from slicemill.io.lake.commits import ScanCommit
from slicemill.io.lake.content import LakeContent
from slicemill.io.lake.rows import QuarantineRow, ScanRow, TotalsRow, columns, from_columns
from slicemill.io.parquet import read_small_groups, read_small_or_empty, write_small
from slicemill.io.places import Lake
from slicemill.io.raw.clinical import Clinical, carried_over
from slicemill.io.storage.commits import Commit
from slicemill.io.storage.fence import Fence
from slicemill.schemas import QUARANTINE, SCANS, TOTALS
from slicemill.types import Uri


@dataclass(frozen=True)
class Published:
    """The rows of the tables as they were last written, and the clinical columns among them.

    `nameless` are quarantine rows that belong to no scan.
    """

    scans: Mapping[str, ScanRow]
    totals: Mapping[str, TotalsRow]
    quarantine: Mapping[str, tuple[QuarantineRow, ...]]
    nameless: tuple[QuarantineRow, ...]
    clinical: Clinical

    def commit(self, commit: Commit) -> ScanCommit | None:
        """A commit's rows; None if they were never published, or there is no scan among them."""
        scan, totals = self.scans.get(commit.scan_id), self.totals.get(commit.scan_id)
        if scan is None or totals is None or scan.source_fingerprint != commit.key:
            return None
        return ScanCommit(scan, totals, self.quarantine.get(commit.scan_id, ()))


def read_published(home: Uri) -> Published:
    """The lake's small tables, empty where they were never written."""
    scans = read_small_or_empty(Lake(home).scans, SCANS)
    quarantine: dict[str | None, list[QuarantineRow]] = defaultdict(list)
    for stored in read_small_or_empty(Lake(home).quarantine, QUARANTINE).to_pylist():
        row = from_columns(QuarantineRow, stored)
        quarantine[row.scan_id].append(row)
    nameless = tuple(quarantine.pop(None, ()))
    rows = [from_columns(ScanRow, stored) for stored in scans.to_pylist()]
    return Published(
        {row.scan_id: row for row in rows},
        {row.scan_id: row for row in _read_totals(home)},
        {scan_id: tuple(of_scan) for scan_id, of_scan in quarantine.items() if scan_id is not None},
        nameless,
        carried_over(scans, SCANS.names),
    )


def _read_totals(home: Uri) -> Iterator[TotalsRow]:
    counts = ("histogram", "heat_map")
    for group in read_small_groups(Lake(home).totals, TOTALS):
        lists = {name: group.column(name) for name in counts}
        rows = group.drop_columns(list(counts)).to_pylist()
        for at, stored in enumerate(rows):
            # Not as Python's lists: they take six times the memory of a lake's table.
            arrays = {name: column[at].values.to_numpy() for name, column in lists.items()}
            yield from_columns(TotalsRow, {**stored, **arrays})


def read_commits(commits: Sequence[Commit], tables: Published) -> list[ScanCommit]:
    """The rows of each commit: from the tables, or from commits that were never published."""
    unread = [commit for commit in commits if tables.commit(commit) is None]
    contents = storage.each(
        lambda commit: ScanCommit.from_json(storage.read_json(commit.uri)),
        unread,
        unread[0].uri if unread else None,
    )
    by_uri = {commit.uri: content for commit, content in zip(unread, contents, strict=True)}
    return [tables.commit(commit) or by_uri[commit.uri] for commit in commits]


def publish(fence: Fence, content: LakeContent, profile: Mapping[str, Any], clinical: Clinical) -> None:
    """Write the lake's small tables; the scans table, which readers begin with, comes last.

    Raises LockLostError if this run no longer holds the lake.
    """
    lake = Lake(fence.home)
    write_small(lake.totals, TOTALS, map(columns, content.totals), write=fence.write)
    write_small(lake.quarantine, QUARANTINE, map(columns, content.quarantine), write=fence.write)
    fence.write_json(lake.profile_summary, profile)
    values = clinical.by_patient({row.patient_id for row in content.scans})
    rows = [{**columns(row), **values.get(row.patient_id, {})} for row in content.scans]
    fields: list[pa.Field] = list(clinical.fields)
    write_small(lake.scans, SCANS, rows, fields, fence.write)
