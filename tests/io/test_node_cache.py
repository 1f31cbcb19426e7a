from __future__ import annotations

import hashlib
import os
import tempfile
import time
from pathlib import Path

import pytest

from slicemill.io import storage
from slicemill.io.storage import node_cache
from slicemill.io.storage.node_cache import read_known
from slicemill.io.storage.uri import canonical

DATA = b"weights"
HASH = hashlib.sha256(DATA).hexdigest()


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path / f"slicemill-{os.getuid()}"


def test_the_second_reader_does_not_ask_s3(bucket: str, folder: Path) -> None:
    uri = f"{bucket}/model"
    storage.write_bytes(uri, DATA)
    assert read_known(uri, HASH) == DATA
    storage.remove(uri)
    assert read_known(uri, HASH) == DATA
    assert folder.stat().st_mode & 0o077 == 0


def test_what_was_tampered_with_is_fetched_again(bucket: str, folder: Path) -> None:
    uri = f"{bucket}/model"
    storage.write_bytes(uri, DATA)
    read_known(uri, HASH)
    (folder / HASH).write_bytes(b"other")
    assert read_known(uri, HASH) == DATA
    assert (folder / HASH).read_bytes() == DATA


def test_other_bytes_are_returned_and_not_kept(bucket: str, folder: Path) -> None:
    uri = f"{bucket}/model"
    storage.write_bytes(uri, b"other")
    assert read_known(uri, HASH) == b"other"
    assert not (folder / HASH).exists()


def test_what_nobody_asked_for_in_a_week_goes(bucket: str, folder: Path) -> None:
    storage.write_bytes(f"{bucket}/model", DATA)
    read_known(f"{bucket}/model", HASH)
    old = folder / "old"
    old.write_bytes(b"")
    os.utime(old, (time.time() - node_cache._KEPT_SECONDS - 1,) * 2)
    read_known(f"{bucket}/model", HASH)
    assert {path.name for path in folder.iterdir()} == {HASH, "lock"}


def test_local_files_are_read_in_place(tmp_path: Path, folder: Path) -> None:
    (tmp_path / "model").write_bytes(DATA)
    assert read_known(canonical(str(tmp_path / "model")), HASH) == DATA
    assert not folder.exists()
