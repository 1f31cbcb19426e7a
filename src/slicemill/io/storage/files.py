"""Whole files by URI, on disk and in S3: list, read, write at once, remove.

Objects appear complete or not at all: S3 publishes a PUT when it has ended; on disk a hidden neighbour is
renamed. S3 is reached with botocore's own settings (AWS_ENDPOINT_URL_S3 or AWS_ENDPOINT_URL for another
server, AWS_REGION, the credential chain).
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from slicemill.errors import InputError, MachineError, StorageError
from slicemill.io.storage.faults import named
from slicemill.io.storage.local_listing import list_local
from slicemill.io.storage.uri import display, file_uri, is_s3, local_path, require_inside
from slicemill.types import Uri

#: Requests in flight to S3 from one process.
S3_THREADS = 16

_T = TypeVar("_T")
_U = TypeVar("_U")


@dataclass(frozen=True, order=True)
class StoredFile:
    """A file of a listing; `version` is S3's ETag, or the times of modification and change on disk.

    `modified` is when it was written, in seconds since 1970, by the storage's clock: on disk the later of
    both times. An empty folder on disk is listed too, its URI ending in a slash. A pipe, device or socket,
    which must never be opened, has the size -1.
    """

    uri: Uri
    size: int
    version: str
    modified: float = 0.0


def s3() -> Any:
    """`slicemill.io.storage.s3_client`, for those who have boto3; local work does without."""
    try:
        from slicemill.io.storage import s3_client
    except ImportError as error:
        raise MachineError(
            "S3 support is not installed", expected="the extra slicemill[aws]", found=str(error)
        ) from error
    return s3_client


def _list_local(uri: Uri) -> Iterator[StoredFile]:
    for entry in list_local(str(local_path(uri))):
        yield StoredFile(file_uri(entry.path), *entry[1:])


def _list_s3(uri: Uri) -> Iterator[StoredFile]:
    s3()  # refuses in one line where boto3 is not installed
    from slicemill.io.storage.s3_listing import list_keys

    for entry in list_keys(uri):
        yield StoredFile(*entry)


def list_files(uri: Uri) -> list[StoredFile]:
    """Every file below a folder or prefix, sorted by URI; raise InputError if there is no such folder."""
    if not is_s3(uri):
        if not local_path(uri).is_dir():
            raise InputError(
                f"{display(uri)} is not a folder",
                expected="an existing folder",
                found="a file" if local_path(uri).exists() else "nothing",
                advice="Check the path.",
            )
        return sorted(_list_local(uri))
    with named(uri, "listed"):
        files = sorted(_list_s3(uri))
    if not files:
        raise InputError(
            f"{uri} is empty",
            expected="at least one object below it",
            found="none",
            advice="Check the bucket and the prefix.",
        )
    return files


def list_or_none(uri: Uri) -> list[StoredFile]:
    """Like `list_files`, but an empty list where there is no such folder."""
    if not is_s3(uri):
        return sorted(_list_local(uri))
    with named(uri, "listed"):
        return sorted(_list_s3(uri))


def now(uri: Uri) -> float:
    """Seconds since 1970 by the clock that dates what is written at `uri`; a disk's is this machine's."""
    if not is_s3(uri):
        return time.time()
    with named(uri, "looked up"):
        seconds: float | None = s3().clock(uri)
    return time.time() if seconds is None else seconds


def exists(uri: Uri) -> bool:
    """Whether a file is there; raise StorageError if storage does not say."""
    with named(uri, "looked up"):
        return local_path(uri).is_file() if not is_s3(uri) else bool(s3().exists(uri))


def read_bytes(uri: Uri) -> bytes:
    """A whole file; raise MissingFileError if it does not exist, StorageError if it can't be read."""
    with named(uri, "read"):
        return bytes(s3().read(uri)) if is_s3(uri) else local_path(uri).read_bytes()


def read_listed(uri: Uri, size: int, version: str) -> bytes:
    """A whole file as it was listed, by size and version; its bytes are verified as far as storage helps.

    Raises MissingFileError if storage confirms that the file is gone, StorageError if it can't be read, was
    replaced, or keeps coming broken.
    """
    with named(uri, "read"):
        if is_s3(uri):
            return bytes(s3().read_listed(uri, size, version))
        data = local_path(uri).read_bytes()
    if len(data) != size:
        raise StorageError(
            f"{display(uri)} changed since it was listed",
            expected=f"{size} bytes",
            found=len(data),
            advice="Run it again once it is written whole.",
        )
    return data


def write_bytes(uri: Uri, data: bytes) -> None:
    """Write a whole file, which others see complete or not at all; folders are made as needed.

    Raises StorageError if it can't be written.
    """
    require_inside(uri)
    with named(uri, "written"):
        s3().write(uri, data) if is_s3(uri) else _write_local(local_path(uri), data)


def _write_local(path: Path, data: bytes) -> None:
    with _draft(path, data) as draft:
        os.replace(draft, path)


@contextmanager
def _draft(path: Path, data: bytes) -> Iterator[Path]:
    """The whole data in a file beside `path`, under a name of this thread's own; gone in the end."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # Not the name itself: with more around it, a long one would no longer fit.
    name = hashlib.blake2b(os.fsencode(path.name), digest_size=8).hexdigest()
    draft = path.with_name(f".{name}.{os.getpid()}.{threading.get_ident()}.draft")
    try:
        draft.write_bytes(data)
        yield draft
    finally:
        draft.unlink(missing_ok=True)


def create(uri: Uri, data: bytes) -> bool:
    """Write a whole file unless there is one, and say whether; of several at once, one succeeds.

    Raises StorageError if it can't be written.
    """
    require_inside(uri)
    with named(uri, "written"):
        return s3().write_if(uri, data, None) is not None if is_s3(uri) else _create(local_path(uri), data)


def _create(path: Path, data: bytes) -> bool:
    with _draft(path, data) as draft:
        try:
            os.link(draft, path)
        except FileExistsError:
            return False
    return True


def remove(uri: Uri) -> None:
    """Remove a file; nothing happens if it is not there."""
    require_inside(uri)
    with named(uri, "removed"):
        s3().remove(uri) if is_s3(uri) else local_path(uri).unlink(missing_ok=True)


def remove_empty_folders(uri: Uri) -> None:
    """Remove the empty folders below a folder on disk, whose names may be a patient's; S3 has none."""
    if is_s3(uri):
        return
    for folder, _, _ in os.walk(local_path(uri), topdown=False):
        if Path(folder) != local_path(uri):
            with contextlib.suppress(OSError):
                os.rmdir(folder)


def read_json(uri: Uri) -> Any:
    """A JSON file's value; raise InputError if it is missing or is not JSON."""
    data = read_bytes(uri)
    try:
        return json.loads(data)
    except ValueError as error:
        raise InputError(f"{display(uri)} is not JSON", expected="JSON text", found=str(error)) from error


def write_json(uri: Uri, value: object, *, indent: int | None = 2) -> None:
    """Write a value as JSON; see `json_bytes`."""
    write_bytes(uri, json_bytes(value, indent=indent))


def json_bytes(value: object, *, indent: int | None = 2) -> bytes:
    """A value as JSON with sorted keys; without indent it is one line, and much faster."""
    return (json.dumps(value, indent=indent, sort_keys=True, allow_nan=False) + "\n").encode()


def each(action: Callable[[_T], _U], items: Iterable[_T], uri: Uri | None) -> list[_U]:
    """`action` on every item in order: at once where `uri` is in S3, one by one on disk.

    Without items there may be no URI either.
    """
    if uri is None or not is_s3(uri):
        return [action(item) for item in items]
    with ThreadPoolExecutor(S3_THREADS) as pool:
        return list(pool.map(action, items))
