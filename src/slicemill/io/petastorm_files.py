"""Files in S3 for Petastorm, which on pyarrow 14 takes pyarrow's old file system interface alone."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Iterator
from functools import cache
from typing import Any

import fsspec

from slicemill.errors import InputError
from slicemill.io.uri import display, is_s3, local_path

with warnings.catch_warnings():
    warnings.simplefilter("ignore", FutureWarning)
    from pyarrow.filesystem import DaskFileSystem


@cache
def _s3fs(process: int) -> Any:
    """The S3 file system of this process; connections do not survive a fork."""
    return fsspec.filesystem(
        "s3",
        use_listings_cache=False,
        skip_instance_cache=True,
        config_kwargs={"retries": {"mode": "adaptive", "max_attempts": 10}},
    )


class S3Files(DaskFileSystem):  # type: ignore[misc]  # "has type Any": pyarrow has no stubs
    """A fixed set of S3 objects, readable by pyarrow's old Parquet data sets.

    Nothing but the objects named exists: no request is spent on finding out, and no `_common_metadata`, whose
    schema Petastorm would unpickle, can be slipped in beside them.
    """

    def __init__(self, uris: Iterable[str]) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            super().__init__(_s3fs(os.getpid()))
        self._keys = {uri.removeprefix("s3://") for uri in uris}

    def isfile(self, path: str) -> bool:
        """Whether `path` is one of the objects."""
        return str(path).removeprefix("s3://") in self._keys

    def isdir(self, path: str) -> bool:
        """Never: an object is no folder."""
        return False

    def exists(self, path: str) -> bool:
        """Whether `path` is one of the objects."""
        return self.isfile(path)

    def walk(self, path: str) -> Iterator[tuple[str, list[str], list[str]]]:
        """Nothing is below an object."""
        return iter(())

    def open(self, path: str, mode: str = "rb") -> Any:
        """An object for reading."""
        return self.fs.open(str(path), mode=mode)


def petastorm_filesystem(uris: list[str]) -> S3Files | None:
    """The `filesystem` for Petastorm to read canonical URIs with, all local or all in S3; None if local.

    Raises InputError for a local path that is no file.
    """
    if uris and is_s3(uris[0]):
        return S3Files(uris)
    for uri in uris:
        # Of a folder Petastorm would read the metadata, and unpickle a schema that it finds there.
        if not local_path(uri).is_file():
            raise InputError(
                f"{display(uri)} is missing from the lake",
                expected="a Parquet file",
                found="no file",
                advice="Run ingest again.",
            )
    return None
