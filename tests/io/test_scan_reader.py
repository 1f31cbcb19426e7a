from __future__ import annotations

import pytest

from slicemill.core.scans.discovery import FoundFile
from slicemill.core.scans.integrity import BadImageError, Reason
from slicemill.errors import MissingFileError, StorageError
from slicemill.io import storage
from slicemill.io.raw.scan_reader import _fetch

FILE = FoundFile("s3://b/scan/scan_1.tif", 10, "")


def failing(error: Exception):
    def read(uri: str) -> bytes:
        raise error

    return read


def test_a_file_that_storage_says_is_gone_is_set_aside(monkeypatch) -> None:
    monkeypatch.setattr(storage, "read_bytes", failing(MissingFileError("can't be read")))
    with pytest.raises(BadImageError) as caught:
        _fetch(FILE, 100)
    assert caught.value.reason is Reason.UNREADABLE


def test_storage_that_does_not_answer_says_nothing_about_the_file(monkeypatch) -> None:
    monkeypatch.setattr(storage, "read_bytes", failing(StorageError("503 SlowDown")))
    with pytest.raises(StorageError, match="503"):
        _fetch(FILE, 100)
