"""List a folder on disk: real folders first, links after them; no file is opened, none is left out."""

from __future__ import annotations

import os
import stat
from collections import deque
from collections.abc import Iterator
from typing import NamedTuple

from slicemill.errors import StorageError


class LocalEntry(NamedTuple):
    """A path below a folder: size in bytes, version, time of change in seconds since 1970.

    An empty folder ends in a slash. A pipe, device or socket has the size -1.
    """

    path: str
    size: int
    version: str
    modified: float


def list_local(root: str) -> Iterator[LocalEntry]:
    """Every file below `root`, each folder once, whatever links lead to it.

    Folders are walked before links to folders, so that a link never stands in for a folder that is there
    under its own name. Nothing comes of a `root` that does not exist. Raises StorageError if a folder can't
    be listed: what is below it would look removed.
    """
    visited: set[tuple[int, int]] = set()
    links: deque[str] = deque()
    yield from _walk(root, visited, links)
    while links:
        yield from _walk(links.popleft(), visited, links)


def _walk(top: str, visited: set[tuple[int, int]], links: deque[str]) -> Iterator[LocalEntry]:
    folders = deque([top])
    while folders:
        folder = folders.popleft()
        try:
            status = os.stat(folder)
            names = sorted(os.listdir(folder)) if (status.st_dev, status.st_ino) not in visited else None
        except (FileNotFoundError, NotADirectoryError):
            continue  # removed since it was seen, or a link that leads nowhere
        except OSError as error:
            raise _unlistable(folder, error) from error
        if names is None:
            continue
        visited.add((status.st_dev, status.st_ino))
        if not names:
            yield LocalEntry(f"{folder}/", 0, "", 0.0)
        for name in names:
            path = os.path.join(folder, name)
            entry = _entry(path)
            if entry is not None:
                yield entry
            elif os.path.islink(path):
                links.append(path)
            else:
                folders.append(path)


def _entry(path: str) -> LocalEntry | None:
    """A path that is not a folder; None for a folder or a link to one."""
    try:
        status = os.stat(path)
    except FileNotFoundError:
        # Removed, or a dangling link: as a folder it is walked into, and found to be nothing.
        return None
    except OSError as error:
        if os.path.islink(path) and not isinstance(error, PermissionError):
            return LocalEntry(path, -1, "", 0.0)  # a link to itself
        raise _unlistable(path, error) from error
    if stat.S_ISDIR(status.st_mode):
        return None
    size = status.st_size if stat.S_ISREG(status.st_mode) else -1
    # Archives and rsync keep old times of modification. No tool sets the time of change.
    version = f"{status.st_mtime_ns}-{status.st_ctime_ns}"
    return LocalEntry(path, size, version, max(status.st_mtime, status.st_ctime))


def _unlistable(path: str, error: OSError) -> StorageError:
    return StorageError(
        f"{path} can't be listed",
        expected="a folder that this user may read",
        found=error.strerror or type(error).__name__,
        advice="Give read access to it, or move it away: what is below it would look removed.",
    )
