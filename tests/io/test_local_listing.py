"""What a listing on disk promises, with the odd things that a folder may hold."""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path

import pytest

from slicemill.errors import StorageError
from slicemill.io import storage
from slicemill.io.storage.local_listing import list_local
from slicemill.io.storage.uri import canonical


def listed(root: Path) -> dict[str, int]:
    """Size by path below the root."""
    return {entry.path.removeprefix(f"{root}/"): entry.size for entry in list_local(str(root))}


@pytest.mark.parametrize("name", ["aaa", "zzz"])
def test_a_real_folder_is_listed_under_its_own_name_whatever_links_lead_to_it(
    tmp_path: Path, name: str
) -> None:
    (tmp_path / "scan").mkdir()
    (tmp_path / "scan" / "scan_1.tif").write_bytes(b"1")
    (tmp_path / name).symlink_to("scan")
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / name).symlink_to("../scan")
    (tmp_path / "deep" / "other").mkdir()
    assert listed(tmp_path) == {"scan/scan_1.tif": 1, "deep/other/": 0}


def test_pipes_sockets_and_devices_are_listed_and_never_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe_1.tif")
    (tmp_path / "zero_1.tif").symlink_to("/dev/zero")
    (tmp_path / "self_1.tif").symlink_to("self_1.tif")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "s_1.tif"))
        assert listed(tmp_path) == dict.fromkeys(["pipe_1.tif", "zero_1.tif", "self_1.tif", "s_1.tif"], -1)


def test_a_folder_that_can_not_be_listed_stops_the_listing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "scan").mkdir()
    listdir = os.listdir

    def denied(path: str) -> list[str]:
        if str(path).endswith("scan"):
            raise PermissionError(13, "Permission denied")
        return listdir(path)

    monkeypatch.setattr(os, "listdir", denied)
    for listing in (storage.list_files, storage.list_or_none):
        with pytest.raises(StorageError, match=r"scan can't be listed; .*found Permission denied"):
            listing(canonical(str(tmp_path)))


def test_a_folder_that_is_removed_meanwhile_is_not_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "scan").mkdir()
    listdir = os.listdir

    def gone(path: str) -> list[str]:
        if str(path).endswith("scan"):
            raise FileNotFoundError(2, "No such file or directory")
        return listdir(path)

    monkeypatch.setattr(os, "listdir", gone)
    assert storage.list_files(canonical(str(tmp_path))) == []
    assert storage.list_or_none(canonical(str(tmp_path / "nowhere"))) == []


@pytest.mark.parametrize("kept", [9e8, 4e9])
def test_other_content_of_the_same_size_and_time_is_another_version(tmp_path: Path, kept: float) -> None:
    path = tmp_path / "scan_1_mask.tif"
    versions = set()
    for content in (b"old", b"new"):
        path.write_bytes(content)
        os.utime(path, (kept, kept))
        (file,) = storage.list_files(canonical(str(tmp_path)))
        versions.add(file.version)
        time.sleep(0.02)  # the tick of the file system's clock
    assert len(versions) == 2


def test_an_old_time_that_was_kept_does_not_make_a_file_old(tmp_path: Path) -> None:
    path = tmp_path / "scan_1.tif"
    before = time.time() - 60
    path.write_bytes(b"1")
    os.utime(path, (9e8, 9e8))
    (file,) = storage.list_files(canonical(str(tmp_path)))
    assert file.modified > before


def test_a_name_that_just_fits_can_be_written(tmp_path: Path) -> None:
    uri = canonical(str(tmp_path / ("a" * 255)))
    storage.write_bytes(uri, b"1")
    assert storage.read_bytes(uri) == b"1"
