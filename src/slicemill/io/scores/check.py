"""Are the outputs of finished scans still what the manifest says they are?"""

from __future__ import annotations

from dataclasses import dataclass

from slicemill.errors import InputError
from slicemill.io import storage
from slicemill.io.run.card import sha256
from slicemill.io.scores.tables import read_entry
from slicemill.io.storage.uri import join
from slicemill.types import Uri


@dataclass(frozen=True)
class EntryCheck:
    """What became of a manifest entry's outputs; paths are relative to the score folder."""

    outputs: int
    missing: tuple[str, ...]
    changed: tuple[str, ...]


def check_entry(home: Uri, entry_uri: Uri) -> EntryCheck:
    """Read every output that a manifest entry vouches for and compare its SHA-256.

    Raises InputError if the entry itself can't be read, LakeVersionError if it is of another version.
    """
    entry = read_entry(entry_uri)
    hashes = storage.each(lambda output: _hash(join(home, output)), entry.outputs, home)
    return EntryCheck(
        len(entry.outputs),
        missing=tuple(output for output, digest in zip(entry.outputs, hashes, strict=True) if digest is None),
        changed=tuple(
            output
            for output, digest, stated in zip(entry.outputs, hashes, entry.output_hashes, strict=True)
            if digest not in (None, stated)
        ),
    )


def _hash(uri: Uri) -> str | None:
    try:
        return sha256(storage.read_bytes(uri))
    except InputError:
        if storage.exists(uri):
            raise
        return None
