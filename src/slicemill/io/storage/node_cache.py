"""Files whose hash is known, fetched from S3 once a node and kept for the processes that come after."""

from __future__ import annotations

import fcntl
import hashlib
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from slicemill.io import storage
from slicemill.io.storage.uri import file_uri, is_s3
from slicemill.types import Uri

#: A file that nobody asked for in so many seconds is removed.
_KEPT_SECONDS = 7 * 24 * 3600


def read_known(uri: Uri, sha256: str) -> bytes:
    """A file's bytes, by its canonical URI and the SHA-256 that it should have.

    One process of a node fetches while the others wait. What does not have the hash is returned all the same,
    for the caller to refuse, and is not kept. Local files are read in place. Raises InputError.
    """
    if not is_s3(uri):
        return storage.read_bytes(uri)
    home = _home()
    cached = home / sha256
    with (home / "lock").open("a+b") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        data = cached.read_bytes() if cached.exists() else b""
        if hashlib.sha256(data).hexdigest() != sha256:
            data = storage.read_bytes(uri)
            if hashlib.sha256(data).hexdigest() == sha256:
                storage.write_bytes(file_uri(cached), data)
        if cached.exists():
            os.utime(cached)
        _sweep(home)
    return data


def read_or_make(name: str, make: Callable[[], bytes], is_sound: Callable[[bytes], bool] = bool) -> bytes:
    """What this node remembers under a name; made by the first process that asks, while the others wait.

    What is not sound is made again. `make` must not ask for another name.
    """
    home = _home()
    cached = home / name
    with (home / "making").open("a+b") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        data = cached.read_bytes() if cached.exists() else b""
        if not is_sound(data):
            data = make()
            storage.write_bytes(file_uri(cached), data)
        os.utime(cached)
        return data


def _home() -> Path:
    """This user's folder in the node's temporary folder, which on YARN is the executor's own."""
    home = Path(tempfile.gettempdir()) / f"slicemill-{os.getuid()}"
    home.mkdir(mode=0o700, exist_ok=True)
    if home.stat().st_uid != os.getuid():
        return Path(tempfile.mkdtemp(prefix="slicemill-"))
    return home


def _sweep(home: Path) -> None:
    for file in home.iterdir():
        if file.name not in ("lock", "making") and file.stat().st_mtime < time.time() - _KEPT_SECONDS:
            file.unlink()
