"""A lake's files as Petastorm takes them: opened from disk, or objects in S3 that are fetched ahead of it.

Objects of a few megabytes are fetched whole, several at once, by one request each: a reader that asks for
footers and column chunks would pay a request for each of them, one after the other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from itertools import pairwise

import pyarrow as pa

from slicemill.errors import InputError
from slicemill.io import storage
from slicemill.io.storage.uri import display, is_s3, local_path
from slicemill.types import Uri

#: Files a reader: starting one takes milliseconds. In S3 so many are fetched at once, and as many more wait.
FILES_PER_READER = 8

#: Opens one file for random access.
Source = Callable[[], pa.NativeFile]


def petastorm_files(uris: Sequence[Uri]) -> Iterator[list[Source]]:
    """What one reader after another takes, to read the files `uris` in order.

    `uris` are canonical, all local or all in S3. Raises InputError for a file that is missing.
    """
    parts = [uris[at : at + FILES_PER_READER] for at in range(0, len(uris), FILES_PER_READER)]
    if uris and is_s3(uris[0]):
        yield from _fetched(parts)
    else:
        yield from ([_local(uri) for uri in part] for part in parts)


def _local(uri: Uri) -> Source:
    path = local_path(uri)
    if not path.is_file():
        raise _missing(uri)
    return partial(pa.OSFile, str(path))


def _fetched(parts: Sequence[Sequence[Uri]]) -> Iterator[list[Source]]:
    with ThreadPoolExecutor(FILES_PER_READER) as pool:

        def fetch(part: Sequence[Uri]) -> list[Future[bytes]]:
            return [pool.submit(storage.read_bytes, uri) for uri in part]

        waiting = fetch(parts[0])
        for _, following in pairwise([*parts, []]):
            fetched, waiting = waiting, fetch(following)
            yield [partial(pa.BufferReader, future.result()) for future in fetched]


def _missing(uri: Uri) -> InputError:
    return InputError(
        f"{display(uri)} is missing from the lake",
        expected="a Parquet file",
        found="no file",
        advice="Run ingest again.",
    )
