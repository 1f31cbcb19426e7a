from __future__ import annotations

import ast
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import slicemill
from slicemill.errors import ConfigError, InputError, StorageError
from slicemill.io import storage
from slicemill.io.storage import files
from slicemill.io.storage.uri import canonical, join, local_path, relative

HOME = canonical("s3://bucket/lake")


@pytest.mark.parametrize(
    ("given_as", "meant"),
    [
        ("s3://bucket/a/b/", "s3://bucket/a/b"),
        ("s3a://bucket/a", "s3://bucket/a"),
        ("S3N://bucket", "s3://bucket"),
        ("/data/raw/", "file:///data/raw"),
        ("file:///data/raw", "file:///data/raw"),
        ("file:/data/raw", "file:///data/raw"),
        ("file:///data/with%20space", "file:///data/with space"),
    ],
)
def test_uris_have_one_form(given_as: str, meant: str) -> None:
    assert canonical(given_as) == meant
    assert canonical(meant) == meant


def test_relative_paths_are_of_the_working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert canonical("raw") == f"file://{tmp_path}/raw"


@pytest.mark.parametrize("wrong", ["gs://bucket/a", "http://a/b", "s3://", "", "s3://bucket/a/../b", "a\0b"])
def test_other_uris_are_refused(wrong: str) -> None:
    with pytest.raises(ConfigError):
        canonical(wrong)


@given(st.lists(st.text("abc", min_size=1), min_size=1, max_size=4))
def test_relative_inverts_join(parts: list[str]) -> None:
    assert relative(join("s3://bucket/lake", *parts), "s3://bucket/lake") == "/".join(parts)


@given(st.lists(st.text("ab./\0", max_size=4), min_size=1, max_size=3))
def test_join_never_leaves_its_folder(parts: list[str]) -> None:
    try:
        joined = join(HOME, *parts)
    except InputError:
        return
    below = joined.removeprefix(f"{HOME}/")
    assert joined != below
    assert os.path.normpath(below) == below
    assert not below.startswith("../")


@pytest.mark.parametrize("name", ["../outside", "a/../../outside", "..", ".", "", "a//b", "a\0b"])
def test_a_name_that_leads_outside_is_refused_in_one_line(name: str) -> None:
    with pytest.raises(InputError, match="leads out of s3://bucket/lake"):
        join(HOME, "masks", name)


@pytest.mark.parametrize("wrong", ["s3a://bucket/a", "gs://bucket/a", "data/raw", "/data/raw", "file:/raw"])
def test_storage_refuses_what_is_not_canonical(
    wrong: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    uri: Any = wrong
    for call in (
        lambda: storage.write_bytes(uri, b"1"),
        lambda: storage.create(uri, b"1"),
        lambda: storage.read_bytes(uri),
        lambda: storage.exists(uri),
        lambda: storage.list_files(uri),
        lambda: storage.list_or_none(uri),
        lambda: storage.remove(uri),
    ):
        with pytest.raises(ConfigError, match="not canonical"):
            call()
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_written_or_removed_above_its_folder(tmp_path: Path) -> None:
    (tmp_path / "scores").mkdir()
    (tmp_path / "precious").write_bytes(b"1")
    uri: Any = f"file://{tmp_path}/scores/../precious"
    for call in (
        lambda: storage.write_bytes(uri, b"2"),
        lambda: storage.create(uri, b"2"),
        lambda: storage.remove(uri),
    ):
        with pytest.raises(InputError, match="steps out of its folder"):
            call()
    assert (tmp_path / "precious").read_bytes() == b"1"


def test_one_file_alone_makes_uris_but_for_the_folders_of_listed_files() -> None:
    home = Path(slicemill.__file__).parent
    makers = {
        str(path.relative_to(home))
        for path in home.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Uri"
    }
    assert makers == {"io/storage/uri.py", "core/scans/discovery.py", "core/scans/folders.py"}


def test_a_listing_is_sorted_and_names_empty_folders(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "1.tif").write_bytes(b"12")
    found = storage.list_files(canonical(str(tmp_path)))
    assert [(file.uri.removeprefix(f"file://{tmp_path}/"), file.size) for file in found] == [
        ("a/1.tif", 2),
        ("b/", 0),
    ]


def test_links_are_followed_once(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    (tmp_path / "elsewhere" / "scan").mkdir(parents=True)
    (tmp_path / "elsewhere" / "scan" / "1.tif").write_bytes(b"1")
    raw.mkdir()
    os.symlink(tmp_path / "elsewhere", raw / "linked")
    os.symlink(raw, raw / "round")
    os.symlink(tmp_path / "gone", raw / "dangling.tif")
    found = [file.uri.removeprefix(f"file://{raw}/") for file in storage.list_files(canonical(str(raw)))]
    assert found == ["linked/scan/1.tif"]


@pytest.mark.parametrize("place", ["disk", "s3"])
def test_write_read_replace_remove(place: str, tmp_path: Path, bucket: str) -> None:
    uri = join(canonical(str(tmp_path)) if place == "disk" else bucket, "new", "file.bin")
    assert not storage.exists(uri)
    for data in (b"first", b"second, longer"):
        storage.write_bytes(uri, data)
        assert storage.read_bytes(uri) == data
    assert [file.size for file in storage.list_files(uri.rpartition("/")[0])] == [14]
    storage.remove(uri)
    storage.remove(uri)
    assert not storage.exists(uri)
    with pytest.raises(InputError, match="can't be read"):
        storage.read_bytes(uri)


def test_a_failed_write_leaves_the_old_file_and_no_draft(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri = canonical(str(tmp_path / "file"))
    storage.write_bytes(uri, b"old")

    def full(*_: object) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(StorageError, match="No space left"):
        storage.write_bytes(uri, b"new")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert local_path(uri).read_bytes() == b"old"


def test_what_is_no_json_is_named(tmp_path: Path) -> None:
    (tmp_path / "card.json").write_text("{")
    with pytest.raises(InputError, match="is not JSON"):
        storage.read_json(canonical(str(tmp_path / "card.json")))


def test_time_is_that_of_the_storage(bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    storage.write_bytes(join(canonical(bucket), "file"), b"1")
    (file,) = storage.list_files(canonical(bucket))
    # Not `time.time` itself: the server of the tests runs in this process.
    monkeypatch.setattr(files, "time", SimpleNamespace(time=lambda: 0.0))
    assert abs(storage.now(canonical(bucket)) - file.modified) < 60
    assert storage.now(canonical(str(tmp_path))) == 0.0
