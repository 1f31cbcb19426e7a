"""A lake's files as Petastorm takes them: local paths, or objects in S3 that are fetched ahead of it.

On pyarrow 14 Petastorm knows pyarrow's old file system interface alone, and through it opens each file twice,
one file after the other. Objects of a few megabytes are better fetched whole, several at once, by one request
each.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import pairwise
from typing import BinaryIO

from slicemill.errors import InputError
from slicemill.io import storage
from slicemill.io.storage.uri import display, is_s3, local_path
from slicemill.types import Uri

with warnings.catch_warnings():
    warnings.simplefilter("ignore", FutureWarning)
    from pyarrow.filesystem import FileSystem

#: Objects that are fetched at once; as many more wait while they are read.
OBJECTS_AHEAD = 8


class FetchedObjects(FileSystem):  # type: ignore[misc]  # "has type Any": pyarrow has no stubs
    """S3 objects in memory, readable by pyarrow's old Parquet data sets.

    Nothing but these objects exists: no request is spent on finding out, and no `_common_metadata`, whose
    schema Petastorm would unpickle, can be slipped in beside them.
    """

    def __init__(self, objects: Mapping[Uri, bytes]) -> None:
        self._objects = {uri.removeprefix("s3://"): data for uri, data in objects.items()}

    def isfile(self, path: str) -> bool:
        """Whether `path` is one of the objects."""
        return str(path).removeprefix("s3://") in self._objects

    def isdir(self, path: str) -> bool:
        """Never: an object is no folder."""
        return False

    def exists(self, path: str) -> bool:
        """Whether `path` is one of the objects."""
        return self.isfile(path)

    def walk(self, path: str) -> Iterator[tuple[str, list[str], list[str]]]:
        """Nothing is below an object."""
        return iter(())

    def open(self, path: str, mode: str = "rb") -> BinaryIO:
        """An object for reading."""
        return io.BytesIO(self._objects[str(path).removeprefix("s3://")])


def petastorm_files(uris: Sequence[Uri]) -> Iterator[tuple[Sequence[str], FetchedObjects | None]]:
    """What one reader after another takes, to read `uris` in order: its URLs and its file system.

    `uris` are canonical, all local or all in S3. Raises InputError for a file that is missing.
    """
    if uris and is_s3(uris[0]):
        yield from _fetched(uris)
    elif uris:
        for uri in uris:
            # Of a folder Petastorm would read the metadata, and unpickle a schema that it finds there.
            if not local_path(uri).is_file():
                raise _missing(uri)
        # Petastorm takes paths as they are behind file://, without escapes.
        yield ["file://" + uri.removeprefix("file://") for uri in uris], None


def _fetched(uris: Sequence[Uri]) -> Iterator[tuple[Sequence[str], FetchedObjects]]:
    parts = [list(uris[at : at + OBJECTS_AHEAD]) for at in range(0, len(uris), OBJECTS_AHEAD)]
    with ThreadPoolExecutor(OBJECTS_AHEAD) as pool:

        def fetch(part: list[Uri]) -> list[Future[bytes]]:
            return [pool.submit(storage.read_bytes, uri) for uri in part]

        waiting = fetch(parts[0])
        for part, following in pairwise([*parts, []]):
            fetched, waiting = waiting, fetch(following)
            yield part, FetchedObjects({uri: one.result() for uri, one in zip(part, fetched, strict=True)})


def _missing(uri: Uri) -> InputError:
    return InputError(
        f"{display(uri)} is missing from the lake",
        expected="a Parquet file",
        found="no file",
        advice="Run ingest again.",
    )
