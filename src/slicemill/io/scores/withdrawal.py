"""Remove patients from a score folder: masks, predicted slices, rows, and what names them."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from slicemill.core.scans.patients import normal
from slicemill.errors import InputError
from slicemill.io import places, storage
from slicemill.io.places import Lake, Scores
from slicemill.io.scores.tables import entries, publish, read_entry
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


def withdraw(home: Uri, patients: Collection[str]) -> ScoresWithdrawal:
    """Remove every trace of these patients; the folder must be locked. Doing it again changes nothing.

    A summary that names one of them goes as a whole: the next scoring run writes it again.
    """
    withdrawn = [
        (commit, entry)
        for commit in entries(home)
        for entry in (read_entry(commit.uri),)
        if entry.score.patient_id in patients
    ]
    outputs = {join(home, name) for _, entry in withdrawn for name in entry.outputs}
    scans = {commit.scan_id for commit, _ in withdrawn}
    storage.each(storage.remove, sorted(outputs), home)
    storage.each(storage.remove, [commit.uri for commit, _ in withdrawn], home)
    partitions = tuple(places.partition(Scores(home).slices, "patient_id", patient) for patient in patients)
    quarantine = tuple(join(Lake(home).quarantine, places.file_name(scan, "--")) for scan in scans)
    leftovers = [
        file.uri
        for folder in (Scores(home).slices, Scores(home).quarantine)
        for file in storage.list_or_none(folder)
        if file.uri.startswith((*(f"{uri}/" for uri in partitions), *quarantine))
        and not file.uri.endswith("/")
    ]
    storage.each(storage.remove, leftovers, home)
    for folder in {Scores(home).slices, *(parent(parent(uri)) for uri in outputs)}:
        storage.remove_empty_folders(folder)
    publish(home)
    summaries = remove_mentions(home, {*patients, *scans}, prefix="summary")
    removed = sum(map(len, (outputs, withdrawn, leftovers, summaries)))
    return ScoresWithdrawal(tuple(sorted(scans)), removed)


def remove_mentions(home: Uri, names: Collection[str], prefix: str = "") -> list[Uri]:
    """Remove each text file of a folder in which one of these names stands; return them.

    `prefix` is the beginning of the names of files that are looked at.
    """
    words = [normal(name).encode() for name in names if name]
    mentioning = [
        file.uri
        for file in storage.list_or_none(home)
        if file.uri.endswith(_TEXTS)
        and file.uri.rpartition("/")[2].startswith(prefix)
        and any(word in storage.read_bytes(file.uri) for word in words)
    ]
    storage.each(storage.remove, mentioning, home)
    return mentioning
