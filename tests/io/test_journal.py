from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from slicemill.io import storage
from slicemill.io.storage.journal import StoredJournal
from slicemill.io.storage.uri import canonical, join


@pytest.fixture(params=["disk", "s3"])
def home(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return canonical(str(tmp_path)) if request.param == "disk" else request.getfixturevalue("bucket")


def test_of_two_that_create_a_file_one_does(home: str) -> None:
    uri = join(home, "below", "file")
    assert storage.create(uri, b"first")
    assert not storage.create(uri, b"second")
    assert storage.read_bytes(uri) == b"first"


def test_entries_of_workers_at_once_are_all_there_in_one_order(home: str) -> None:
    def work(worker: int) -> None:
        journal = StoredJournal(join(home, "journal"))
        for number in range(10):
            journal.append_logs([{"worker": worker, "number": number}])

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(work, range(3)))

    seen = list(StoredJournal(join(home, "journal")).read_logs(0))
    assert len(seen) == 30
    for worker in range(3):
        assert [entry["number"] for entry in seen if entry["worker"] == worker] == list(range(10))
    assert list(StoredJournal(join(home, "journal")).read_logs(25)) == seen[25:]
    assert list(StoredJournal(join(home, "journal")).read_logs(30)) == []
