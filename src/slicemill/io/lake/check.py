"""Do the raw files and the lake still hold what a commit says of them?"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from slicemill.errors import MissingFileError
from slicemill.io import storage
from slicemill.io.lake.commits import ScanCommit
from slicemill.io.storage.uri import display, join, stored_uri
from slicemill.types import Uri


@dataclass(frozen=True)
class CommitCheck:
    """What became of the files that a commit vouches for, raw ones and the lake's own."""

    files: int
    missing: tuple[str, ...]
    changed: tuple[str, ...]


def check_commit(home: Uri, commit_uri: Uri) -> CommitCheck:
    """Read every file that a commit vouches for and compare its SHA-256.

    Commits of earlier releases vouch for none. Raises StorageError if a file can't be read now.
    """
    commit = ScanCommit.from_json(storage.read_json(commit_uri))
    stated = {stored_uri(uri): digest for uri, digest in commit.sources.items()}
    stated |= {join(home, output): digest for output, digest in commit.outputs.items()}
    digests = dict(zip(stated, storage.each(_sha256, list(stated), home), strict=True))
    missing = [display(uri) for uri, digest in digests.items() if digest is None]
    changes = [display(uri) for uri, digest in digests.items() if digest not in (None, stated[uri])]
    return CommitCheck(len(stated), tuple(missing), tuple(changes))


def _sha256(uri: Uri) -> str | None:
    try:
        return hashlib.sha256(storage.read_bytes(uri)).hexdigest()
    except MissingFileError:
        return None
