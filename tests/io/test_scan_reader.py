from __future__ import annotations

import pytest

from slicemill.core.scans.discovery import FoundFile
from slicemill.core.scans.integrity import BadImageError, Reason
from slicemill.errors import InputError
from slicemill.io import storage
from slicemill.io.raw.scan_reader import _fetch


def failing(cause: OSError):
    def read(uri: str) -> bytes:
        raise InputError("can't be read", found=str(cause)) from cause

    return read


@pytest.mark.parametrize("cause", [FileNotFoundError(), PermissionError()])
def test_a_file_that_is_gone_or_closed_is_set_aside(monkeypatch, cause: OSError) -> None:
    monkeypatch.setattr(storage, "read_bytes", failing(cause))
    with pytest.raises(BadImageError) as caught:
        _fetch(FoundFile("s3://b/scan/scan_1.tif", 10, ""), 100)
    assert caught.value.reason is Reason.UNREADABLE


def test_a_storage_that_does_not_answer_is_no_fault_of_the_file(monkeypatch) -> None:
    monkeypatch.setattr(storage, "read_bytes", failing(OSError("503 SlowDown")))
    with pytest.raises(InputError, match="503"):
        _fetch(FoundFile("s3://b/scan/scan_1.tif", 10, ""), 100)
