"""A fault that passes never becomes a fact: scans read from and written to failing storage, without Spark."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from raw_builder import SCAN_IDS, write_scan
from s3_proxy import Fault, FaultProxy, broken_off, changed, flipped, refused, reset, slow

from slicemill.core.scans.discovery import FoundFile, ScanTask, discover
from slicemill.io import storage
from slicemill.io.lake.check import check_commit
from slicemill.io.lake.commits import COMMIT_SUFFIX, ScanCommit
from slicemill.io.lake.scan_ingest import ScanFailure, commit_or_failure
from slicemill.io.lake.writer import LakeWriter
from slicemill.io.places import Lake
from slicemill.io.storage import s3_client
from slicemill.io.storage.commits import list_commits
from slicemill.io.storage.fence import Fence
from slicemill.io.storage.lock import LOCK_NAME, sole_writer
from slicemill.io.storage.uri import canonical, join

PATTERN = re.compile(r"(?P<patient_id>TEST_\w\w_\d+)_\d+")
SLICES = 3


def tasks_of(raw: Any) -> tuple[ScanTask, ...]:
    files = [FoundFile(file.uri, file.size, file.version) for file in storage.list_files(raw)]
    return discover(files, PATTERN, roots=[raw]).scans


def ingest_all(raw: Any, fence: Fence) -> dict[str, ScanCommit | ScanFailure]:
    writer = LakeWriter(fence, 0, "ingest-test", datetime(2026, 1, 1, tzinfo=UTC))
    return {task.scan_id: commit_or_failure(task, writer, 1 << 20, ()) for task in tasks_of(raw)}


def committed(lake: Any) -> list[str]:
    return sorted(commit.scan_id for commit in list_commits(Lake(lake).commits, COMMIT_SUFFIX))


def content(commit: ScanCommit | ScanFailure) -> str:
    assert isinstance(commit, ScanCommit), commit
    assert commit.scan is not None
    assert commit.quarantine == ()
    return commit.scan.content_hash


@pytest.fixture
def raw(bucket: str, tmp_path: Path) -> Any:
    """Two scans in S3."""
    for scan_id in SCAN_IDS[:2]:
        for path in write_scan(tmp_path, scan_id, slices=SLICES, side=16).iterdir():
            storage.write_bytes(join(canonical(bucket), "raw", scan_id, path.name), path.read_bytes())
    return canonical(f"{bucket}/raw")


@pytest.fixture
def fence(bucket: str) -> Iterator[Fence]:
    with sole_writer(canonical(f"{bucket}/lake"), "test") as fence:
        yield fence


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    client = s3_client.client
    monkeypatch.setattr(s3_client, "client", lambda *, hasty=False: client(hasty=True))


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize(
    "fault",
    [
        refused("AccessDenied", 403),
        refused("ExpiredToken", 400),
        refused("KMS.DisabledException", 400),
        refused("InvalidObjectState", 403),
        refused("NoSuchKey", 404),
        refused("SlowDown", 503),
        refused("InternalError", 500),
        reset,
        broken_off,
        changed(flipped),
        changed(lambda body: body[:-1]),
        changed(lambda body: b""),
    ],
)
def test_a_passing_fault_fails_its_scan_alone_and_the_next_run_reads_it(
    raw: Any, fence: Fence, proxy: FaultProxy, fault: Fault
) -> None:
    bad, good = SCAN_IDS[0], SCAN_IDS[1]
    proxy.spoil(fault, method="GET", part=f"/raw/{bad}/{bad}_2.tif")
    first = ingest_all(raw, fence)
    assert isinstance(first[bad], ScanFailure)
    assert isinstance(first[good], ScanCommit)
    assert committed(fence.home) == [good]
    proxy.heal()
    second = ingest_all(raw, fence)
    assert content(second[bad])
    assert content(second[good]) == content(first[good])
    assert committed(fence.home) == [bad, good]


@pytest.mark.parametrize(
    "fault",
    [
        refused("SlowDown", 503),
        reset,
        broken_off,
        slow(0.3),
        changed(flipped),
        changed(lambda body: body[: len(body) // 2]),
        changed(lambda body: body + b"more"),
    ],
)
def test_what_comes_broken_once_is_read_again_and_arrives_whole(
    raw: Any, fence: Fence, proxy: FaultProxy, fault: Fault
) -> None:
    undisturbed = {scan_id: content(commit) for scan_id, commit in ingest_all(raw, fence).items()}
    proxy.spoil(fault, method="GET", part="_2.tif", times=1)
    again = ingest_all(raw, fence)
    assert {scan_id: content(commit) for scan_id, commit in again.items()} == undisturbed


def test_bytes_that_came_broken_are_said(
    raw: Any, fence: Fence, proxy: FaultProxy, caplog: pytest.LogCaptureFixture
) -> None:
    proxy.spoil(changed(flipped), method="GET", part=f"{SCAN_IDS[0]}_2.tif", times=1)
    ingest_all(raw, fence)
    assert f"{SCAN_IDS[0]}_2.tif came broken and is read again: the MD5" in caplog.text


@pytest.mark.usefixtures("impatient")
def test_an_object_replaced_since_it_was_listed_is_not_taken(raw: Any, fence: Fence) -> None:
    (task, _) = tasks_of(raw)
    storage.write_bytes(task.slices[1].image.uri, b"x" * task.slices[1].image.size)
    result = commit_or_failure(task, LakeWriter(fence, 0, "t", datetime(2026, 1, 1, tzinfo=UTC)), 1 << 20, ())
    assert isinstance(result, ScanFailure)
    assert "PreconditionFailed" in result.reason


def test_a_file_that_is_truly_gone_is_set_aside(raw: Any, fence: Fence) -> None:
    (task, _) = tasks_of(raw)
    storage.remove(task.slices[1].image.uri)
    result = commit_or_failure(task, LakeWriter(fence, 0, "t", datetime(2026, 1, 1, tzinfo=UTC)), 1 << 20, ())
    assert isinstance(result, ScanCommit)
    assert [row.reason for row in result.quarantine] == ["unreadable"]


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("part", ["lake/slices", "lake/profile", "lake/_commits"])
def test_a_write_that_is_refused_leaves_no_commit(
    raw: Any, fence: Fence, proxy: FaultProxy, part: str
) -> None:
    proxy.spoil(refused("SlowDown", 503), method="PUT", part=part)
    assert all(isinstance(result, ScanFailure) for result in ingest_all(raw, fence).values())
    assert committed(fence.home) == []
    proxy.heal()
    assert all(map(content, ingest_all(raw, fence).values()))


def test_a_late_writer_publishes_no_scan(raw: Any, bucket: str) -> None:
    home = canonical(f"{bucket}/lake")
    with sole_writer(home, "early") as early:
        pass
    with sole_writer(home, "late"):
        results = ingest_all(raw, early)
    assert all(isinstance(result, ScanFailure) for result in results.values())
    assert all("no longer holds the lock" in result.reason for result in results.values())
    assert storage.list_or_none(home) == []


def test_every_commit_carries_the_token_of_its_lock_and_the_hashes_of_what_was_read(
    raw: Any, fence: Fence
) -> None:
    ingest_all(raw, fence)
    for commit in list_commits(Lake(fence.home).commits, COMMIT_SUFFIX):
        stored = ScanCommit.from_json(storage.read_json(commit.uri))
        assert stored.token == fence.token
        assert len(stored.sources) == 2 * SLICES


@pytest.mark.parametrize("place", ["disk", "s3"])
def test_verify_names_what_is_missing_and_what_changed(place: str, tmp_path: Path, bucket: str) -> None:
    home = canonical(str(tmp_path) if place == "disk" else bucket)
    folder = write_scan(tmp_path / "made", SCAN_IDS[0], slices=SLICES, side=16)
    raw, lake = join(home, "raw"), join(home, "lake")
    for path in folder.iterdir():
        storage.write_bytes(join(raw, SCAN_IDS[0], path.name), path.read_bytes())
    with sole_writer(lake, "test") as fence:
        ingest_all(raw, fence)
    (commit,) = list_commits(Lake(lake).commits, COMMIT_SUFFIX)
    clean = check_commit(lake, commit.uri)
    assert (clean.files, clean.missing, clean.changed) == (2 * SLICES + 2, (), ())

    image = join(raw, SCAN_IDS[0], f"{SCAN_IDS[0]}_1.tif")
    storage.write_bytes(image, flipped(storage.read_bytes(image)))
    storage.remove(join(raw, SCAN_IDS[0], f"{SCAN_IDS[0]}_2_mask.tif"))
    (data,) = [file.uri for file in storage.list_files(Lake(lake).slices)]
    storage.write_bytes(data, flipped(storage.read_bytes(data)))
    check = check_commit(lake, commit.uri)
    assert [name.rpartition("/")[2] for name in check.missing] == [f"{SCAN_IDS[0]}_2_mask.tif"]
    assert {name.rpartition("/")[2] for name in check.changed} == {
        f"{SCAN_IDS[0]}_1.tif",
        data.rpartition("/")[2],
    }


def test_the_lock_is_no_part_of_a_lake(raw: Any, fence: Fence) -> None:
    ingest_all(raw, fence)
    assert storage.exists(join(fence.home, LOCK_NAME))
    assert len(list_commits(Lake(fence.home).commits, COMMIT_SUFFIX)) == 2
