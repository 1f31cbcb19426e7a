"""Night after night over a storage that fails at random; Spark is left out. At the end the lake is whole."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from raw_builder import write_scan
from s3_proxy import (
    FaultProxy,
    broken_off,
    changed,
    clock,
    flipped,
    refused,
    reset,
    running,
    slow,
    stored_then,
)

from slicemill.config import IngestConfig
from slicemill.core.scans.discovery import ScanTask
from slicemill.errors import SlicemillError
from slicemill.io import storage
from slicemill.io.lake.commits import ScanCommit
from slicemill.io.lake.writer import LakeWriter
from slicemill.io.storage import s3_client
from slicemill.io.storage.uri import canonical, join, relative
from slicemill.pipelines import ingest
from slicemill.spark.ingest import IngestOutcome, ScanFailure, _commit_or_failure
from slicemill.types import Uri

NIGHTS = 8
FAULTS = (
    refused("AccessDenied", 403),
    refused("NoSuchKey", 404),
    refused("InternalError", 500),
    refused("SlowDown", 503),
    stored_then("InternalError", 500),
    reset,
    broken_off,
    slow(0.05),
    changed(flipped),
    changed(lambda body: body[: len(body) // 2]),
    clock(ahead=3600),
)


@pytest.fixture
def weather(s3: str) -> Iterator[FaultProxy]:
    """A fault proxy that this process's S3 clients go through."""
    with running(s3, seed=7) as proxy, pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
        s3_client._client.cache_clear()
        yield proxy
    s3_client._client.cache_clear()


@pytest.fixture(autouse=True)
def _here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Scans are ingested in this process, in order."""

    def ingest_scans(
        spark: object,
        writer: LakeWriter,
        tasks: Sequence[ScanTask],
        replaced: Mapping[str, tuple[Uri, ...]],
        max_pixels: int,
    ) -> IngestOutcome:
        results = [_commit_or_failure(task, writer, max_pixels, replaced[task.scan_id]) for task in tasks]
        return IngestOutcome(
            tuple(result for result in results if isinstance(result, ScanCommit)),
            tuple(result for result in results if isinstance(result, ScanFailure)),
        )

    monkeypatch.setattr(ingest, "ingest_scans", ingest_scans)


def night(raw: Uri, lake: Uri) -> dict[str, Any]:
    """The summary of one night's ingest."""
    try:
        return ingest.run(IngestConfig(raw=(raw,), lake=lake), None)  # type: ignore[arg-type]
    except SlicemillError:
        return {"status": "failed"}


def deliver(folder: Path, raw: Uri, number: int) -> None:
    """A new scan arrives, whole."""
    scan_id = f"TEST_AA_{number:04}_20200101"
    for path in write_scan(folder, scan_id, slices=3, side=16).iterdir():
        storage.write_bytes(join(raw, scan_id, path.name), path.read_bytes())


def objects(lake: Uri) -> dict[str, str]:
    """Every object of a lake, by name; data by hash too, since other objects name their run and its time."""
    names = [relative(file.uri, lake) for file in storage.list_files(lake)]
    return {
        name: hashlib.sha256(storage.read_bytes(join(lake, name))).hexdigest()
        if name.startswith(("slices/", "profile/"))
        else ""
        for name in names
    }


@pytest.mark.slow
def test_after_nights_of_faults_the_lake_is_that_of_calm_nights(
    bucket: str, weather: FaultProxy, tmp_path: Path
) -> None:
    raw, lake, calm = (canonical(f"{bucket}/{name}") for name in ("raw", "lake", "calm"))
    chance = random.Random(7)
    for number in range(1, NIGHTS + 1):
        deliver(tmp_path, raw, number)
        for fault in chance.sample(FAULTS, 3):
            weather.spoil(fault, share=0.02)
        summary = night(raw, lake)
        weather.heal()
        # A night that says that it is done has all scans, and no night takes a fault for bad content.
        assert summary["status"] == "failed" or (summary["status"], summary["scans"]) == ("done", number)
        assert summary.get("quarantined", 0) == 0
    assert night(raw, lake)["status"] == "done"
    assert night(raw, calm)["status"] == "done"
    assert objects(lake) == objects(calm)
