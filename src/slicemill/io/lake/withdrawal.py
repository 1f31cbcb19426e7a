"""Remove patients from a lake: scans, tables, clinical columns, lists and splits."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from slicemill.core.scans.discovery import Discovery
from slicemill.core.scans.patients import identify
from slicemill.core.splits import LEAKY, split_hash
from slicemill.io import storage
from slicemill.io.lake.card import require_lake
from slicemill.io.lake.commits import COMMIT_SUFFIX, ScanCommit
from slicemill.io.lake.content import LakeContent
from slicemill.io.lake.published import Published, publish, read_commits, read_published
from slicemill.io.lake.rows import QuarantineRow
from slicemill.io.lake.splits import Split, read_split, replace_split, split_names
from slicemill.io.places import Lake
from slicemill.io.storage.commits import Commit, list_commits
from slicemill.io.storage.fence import Fence
from slicemill.types import Uri


@dataclass(frozen=True)
class LakeWithdrawal:
    """What was removed from a lake: scans, files, and the splits that named a patient."""

    scans: tuple[str, ...]
    files: int
    splits: tuple[str, ...]


@dataclass(frozen=True)
class _LakeState:
    """What lies in a lake, and how its scans belong to patients."""

    tables: Published
    commits: tuple[tuple[Commit, ScanCommit], ...]
    patient_list: Mapping[str, str]
    pattern: re.Pattern[str]

    @classmethod
    def read(cls, home: Uri) -> _LakeState:
        uri = Lake(home).patients
        tables = read_published(home)
        commits = list_commits(Lake(home).commits, COMMIT_SUFFIX)
        return cls(
            tables,
            tuple(zip(commits, read_commits(commits, tables), strict=True)),
            storage.read_json(uri) if storage.exists(uri) else {},
            re.compile(storage.read_json(Lake(home).card).get("scan_pattern") or ""),
        )

    def patient_of(self, scan_id: str) -> str:
        """Of a scan that has no row, such as one that went to quarantine whole."""
        return identify(scan_id, self.pattern, self.patient_list).patient_id

    def commits_of(self, patients: Collection[str]) -> set[Commit]:
        """The commits of the patients' scans."""
        return {
            commit
            for commit, rows in self.commits
            if (rows.scan.patient_id if rows.scan else self.patient_of(commit.scan_id)) in patients
        }

    def outside(self, patients: Collection[str]) -> list[QuarantineRow]:
        """Quarantine rows without a commit that are of other patients, or of nobody."""
        committed = {commit.scan_id for commit, _ in self.commits}
        of_others = [
            row
            for scan_id, rows in self.tables.quarantine.items()
            if scan_id not in committed and self.patient_of(scan_id) not in patients
            for row in rows
        ]
        return [*of_others, *self.tables.nameless]


def scans_of(home: Uri, patients: Collection[str]) -> set[str]:
    """The patients' scans, of which the lake holds anything. Raises InputError if there is no lake."""
    require_lake(home)
    state = _LakeState.read(home)
    rows = {row.scan_id for row in state.tables.scans.values() if row.patient_id in patients}
    return rows | {commit.scan_id for commit in state.commits_of(patients)}


def withdraw(fence: Fence, patients: Collection[str]) -> LakeWithdrawal:
    """Remove every trace of these patients; the lake must be locked. Doing it again changes nothing.

    Raises InputError if there is no lake, LockLostError if this run no longer holds it.
    """
    home = fence.home
    scans = scans_of(home, patients)
    splits = _withdraw_from_splits(fence, patients)
    state = _LakeState.read(home)
    withdrawn = state.commits_of(patients)
    storage.each(fence.remove, sorted(commit.uri for commit in withdrawn), home)
    remaining = [rows for commit, rows in state.commits if commit not in withdrawn]
    content = LakeContent.of(remaining, state.outside(patients))
    clinical = state.tables.clinical.without(patients)
    nothing = Discovery((), (), {}, {})
    publish(fence, content, content.profile(nothing, clinical), clinical)
    files = content.remove_leftovers(fence)
    # Last: it says whose a scan is that went to quarantine whole, should this run be killed before.
    _withdraw_from_list(fence, state.patient_list, patients)
    return LakeWithdrawal(tuple(sorted(scans)), files, splits)


def _withdraw_from_list(fence: Fence, patient_list: Mapping[str, str], patients: Collection[str]) -> None:
    """Take patients off the list that ingest was given."""
    remaining = {scan: patient for scan, patient in patient_list.items() if patient not in patients}
    if remaining != patient_list:
        fence.write_json(Lake(fence.home).patients, remaining)


def _withdraw_from_splits(fence: Fence, patients: Collection[str]) -> tuple[str, ...]:
    """Take patients out of every split; return the names of those that named one."""
    names = [name for name in split_names(fence.home) if not name.startswith(LEAKY)]
    return tuple(
        name for name in names if replace_split(fence, _without(read_split(fence.home, name), patients))
    )


def _without(split: Split, patients: Collection[str]) -> Split:
    remaining = {patient: part for patient, part in split.assigned.items() if patient not in patients}
    if len(remaining) == len(split.assigned):
        return split
    together = [[id_ for id_ in group if id_ not in patients] for group in split.card.get("together", ())]
    card = {**split.card, "hash": split_hash(remaining), "patients": len(remaining), "together": together}
    return Split(split.name, remaining, card)
