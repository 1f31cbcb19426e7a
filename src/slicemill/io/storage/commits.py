"""Commits: one small object a finished scan, written last, found by name without being read.

A commit is named `<scan>--<key><suffix>`; the key says what the scan was finished from. Whatever was
killed before its commit is done again; whatever has one is not.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import unquote

from slicemill.io import places, storage
from slicemill.io.storage.uri import join
from slicemill.types import Uri

_MARK = "--"


@dataclass(frozen=True)
class Commit:
    """A finished scan: its id, the key that it was finished from, and the object that says so."""

    scan_id: str
    key: str
    uri: Uri


def commit_uri(folder: Uri, scan_id: str, key: str, suffix: str) -> Uri:
    """Where the commit of a scan lies."""
    return join(folder, places.file_name(scan_id, f"{_MARK}{key}{suffix}"))


def list_commits(folder: Uri, suffix: str) -> list[Commit]:
    """Every commit in a folder, by one listing."""
    commits = []
    for file in storage.list_or_none(folder):
        name = file.uri.rpartition("/")[2]
        if name.endswith(suffix) and not name.startswith("."):
            scan, mark, key = name.removesuffix(suffix).rpartition(_MARK)
            if mark:
                commits.append(Commit(unquote(scan), key, file.uri))
    return commits


def by_scan(commits: list[Commit]) -> Mapping[str, list[Commit]]:
    """Commits of each scan."""
    grouped: dict[str, list[Commit]] = {}
    for commit in commits:
        grouped.setdefault(commit.scan_id, []).append(commit)
    return grouped
