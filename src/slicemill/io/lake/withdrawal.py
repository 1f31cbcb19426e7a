"""Remove patients from a lake: scans, tables, clinical columns, lists and splits."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass

from slicemill.core.scans.discovery import Discovery
from slicemill.core.scans.patients import identify
from slicemill.core.splits import LEAKY, split_hash
from slicemill.io import storage
from slicemill.io.lake.card import require_lake
from slicemill.io.lake.commits import COMMIT_SUFFIX, ScanCommit
from slicemill.io.lake.content import LakeContent
from slicemill.io.lake.published import publish, read_commits, read_published
from slicemill.io.lake.splits import Split, read_split, split_names, write_split
from slicemill.io.places import Lake
from slicemill.io.storage.commits import list_commits
from slicemill.io.storage.fence import Fence
from slicemill.types import Uri


@dataclass(frozen=True)
class LakeWithdrawal:
    """What was removed from a lake: scans, files, and the splits that named a patient."""

    scans: tuple[str, ...]
    files: int
    splits: tuple[str, ...]


def withdraw(fence: Fence, patients: Collection[str]) -> LakeWithdrawal:
    """Remove every trace of these patients; the lake must be locked. Doing it again changes nothing.

    Raises InputError if there is no lake, LockLostError if this run no longer holds it.
    """
    home = fence.home
    require_lake(home)
    splits = _withdraw_from_splits(home, patients)
    patient_list = _withdraw_from_list(home, patients)
    tables = read_published(home)
    commits = list_commits(Lake(home).commits, COMMIT_SUFFIX)
    pattern = re.compile(storage.read_json(Lake(home).card).get("scan_pattern") or "")

    def patient_of(scan_id: str) -> str:
        return identify(scan_id, pattern, patient_list).patient_id

    remaining: list[ScanCommit] = []
    scans = {row.scan_id for row in tables.scans.values() if row.patient_id in patients}
    for commit, rows in zip(commits, read_commits(commits, tables), strict=True):
        if (rows.scan.patient_id if rows.scan else patient_of(commit.scan_id)) in patients:
            fence.remove(commit.uri)
            scans.add(commit.scan_id)
        else:
            remaining.append(rows)
    committed = {commit.scan_id for commit in commits}
    outside = [
        row
        for scan_id, of_scan in tables.quarantine.items()
        if scan_id not in committed and patient_of(scan_id) not in patients
        for row in of_scan
    ]
    content = LakeContent.of(remaining, [*outside, *tables.nameless])
    clinical = tables.clinical.without(patients)
    nothing = Discovery((), (), {}, {})
    publish(fence, content, content.profile(nothing, clinical), clinical)
    return LakeWithdrawal(tuple(sorted(scans)), content.remove_leftovers(fence), splits)


def _withdraw_from_list(home: Uri, patients: Collection[str]) -> dict[str, str]:
    """Take patients off the list that ingest was given; return the list as it was."""
    uri = Lake(home).patients
    if not storage.exists(uri):
        return {}
    patient_list: dict[str, str] = storage.read_json(uri)
    storage.write_json(
        uri, {scan: patient for scan, patient in patient_list.items() if patient not in patients}
    )
    return patient_list


def _withdraw_from_splits(home: Uri, patients: Collection[str]) -> tuple[str, ...]:
    names = []
    for name in split_names(home):
        if name.startswith(LEAKY):
            continue
        split = read_split(home, name)
        remaining = {patient: part for patient, part in split.assigned.items() if patient not in patients}
        if len(remaining) == len(split.assigned):
            continue
        together = [[id_ for id_ in group if id_ not in patients] for group in split.card.get("together", ())]
        card = {**split.card, "hash": split_hash(remaining), "patients": len(remaining), "together": together}
        write_split(home, Split(name, remaining, card))
        names.append(name)
    return tuple(names)
