"""Remove patients from a score folder: masks, predicted slices, rows, and what names them."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from slicemill.core.evaluation.rows import ManifestEntry
from slicemill.core.scans.patients import normal
from slicemill.errors import InputError
from slicemill.io import places, storage
from slicemill.io.places import Lake, Scores
from slicemill.io.scores.tables import entries, publish, read_entry
from slicemill.io.storage.commits import Commit
from slicemill.io.storage.fence import Fence
from slicemill.io.storage.uri import display, join, parent
from slicemill.types import Uri

#: Files of text that may name a patient.
_TEXTS = (".html", ".json", ".csv", ".md", ".txt", ".svg")


@dataclass(frozen=True)
class ScoresWithdrawal:
    """What was removed from a score folder: scans and files."""

    scans: tuple[str, ...]
    files: int


def require_scores(home: Uri) -> None:
    """Raise InputError if there are no scores."""
    if not storage.exists(Scores(home).card):
        raise InputError(
            f"{display(home)} is not a score folder",
            expected="a folder that slicemill score wrote",
            found="no scores.json",
        )


def scans_of(home: Uri, patients: Collection[str]) -> set[str]:
    """The patients' scored scans."""
    return {commit.scan_id for commit, _ in _entries_of(home, patients)}


def _entries_of(home: Uri, patients: Collection[str]) -> list[tuple[Commit, ManifestEntry]]:
    manifest = [(commit, read_entry(commit.uri)) for commit in entries(home)]
    return [(commit, entry) for commit, entry in manifest if entry.score.patient_id in patients]


def withdraw(fence: Fence, patients: Collection[str]) -> ScoresWithdrawal:
    """Remove every trace of these patients; the folder must be locked. Doing it again changes nothing.

    A summary that names one of them goes as a whole: the next scoring run writes it again.
    Raises InputError for a folder without scores, LockLostError if this run no longer holds it.
    """
    home = fence.home
    require_scores(home)
    withdrawn = _entries_of(home, patients)
    outputs = {join(home, name) for _, entry in withdrawn for name in entry.outputs}
    scans = {commit.scan_id for commit, _ in withdrawn}
    # First: later nothing tells which scans were the patients', should this run be killed.
    summaries = remove_mentions(fence, {*patients, *scans}, prefix="summary")
    fence.check()
    storage.each(storage.remove, sorted(outputs), home)
    storage.each(fence.remove, [commit.uri for commit, _ in withdrawn], home)
    partitions = tuple(places.partition(Scores(home).slices, "patient_id", patient) for patient in patients)
    quarantine = tuple(join(Lake(home).quarantine, places.file_name(scan, "--")) for scan in scans)
    leftovers = [
        file.uri
        for folder in (Scores(home).slices, Scores(home).quarantine)
        for file in storage.list_or_none(folder)
        if file.uri.startswith((*(f"{uri}/" for uri in partitions), *quarantine))
        and not file.uri.endswith("/")
    ]
    fence.check()
    storage.each(storage.remove, leftovers, home)
    for folder in {Scores(home).slices, *(parent(parent(uri)) for uri in outputs)}:
        storage.remove_empty_folders(folder)
    publish(home)
    files = len(outputs) + len(withdrawn) + len(leftovers) + len(summaries)
    return ScoresWithdrawal(tuple(sorted(scans)), files)


def remove_mentions(fence: Fence, names: Collection[str], prefix: str = "") -> list[Uri]:
    """Remove each text file of a locked folder in which one of these names stands; return them.

    `prefix` is the beginning of the names of files that are looked at. Raises LockLostError if this run no
    longer holds the folder.
    """
    words = [normal(name).encode() for name in names if name]
    pages = [
        file.uri
        for file in storage.list_or_none(fence.home)
        if file.uri.endswith(_TEXTS)
        and file.uri.rpartition("/")[2].startswith(prefix)
        and any(word in storage.read_bytes(file.uri) for word in words)
    ]
    storage.each(fence.remove, pages, fence.home)
    return pages
