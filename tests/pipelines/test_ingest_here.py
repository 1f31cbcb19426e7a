"""Little work is ingested in this process, much of it on Spark, and the lake says the same."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
from raw_builder import SCAN_IDS, write_scan

from slicemill import api
from slicemill.config import IngestConfig
from slicemill.io.lake import scan_ingest
from slicemill.io.lake.reader import read_lake_scan, read_scans
from slicemill.io.storage.uri import canonical
from slicemill.pipelines import ingest


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """Three scans, one of them with a damaged slice."""
    for scan_id in SCAN_IDS:
        write_scan(tmp_path / "raw", scan_id, slices=4, side=32)
    next((tmp_path / "raw" / SCAN_IDS[2]).glob("*_1.tif")).write_bytes(b"II*\x00 and no more")
    return tmp_path / "raw"


@pytest.fixture
def sessions(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the sessions that were opened."""
    from slicemill.spark import session

    names: list[str] = []

    def start(name: str, *, slots: int = 1) -> Any:
        names.append(name)
        raise RuntimeError("a session was opened")

    monkeypatch.setattr(session, "start_session", start)
    monkeypatch.delenv("SLICEMILL_MASTER", raising=False)
    monkeypatch.delenv("PYSPARK_GATEWAY_PORT", raising=False)
    return names


def _content(lake: Path) -> list[tuple[Any, ...]]:
    home = canonical(str(lake))
    return [
        (row.scan_id, row.content_hash, row.tumour_slices, len(read_lake_scan(home, row).slices))
        for row in read_scans(home)
    ]


def test_it_gives_the_same_lake_as_spark(
    raw: Path, tmp_path: Path, spark: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SLICEMILL_MASTER", raising=False)
    summaries = [
        ingest.run(IngestConfig(raw=(str(raw),), lake=str(tmp_path / name)), session)
        for name, session in (("here", None), ("on-spark", spark))
    ]

    assert summaries[0] | {"lake": ""} == summaries[1] | {"lake": ""}
    assert summaries[0]["read"] == 3
    assert summaries[0]["quarantined"] == 1
    assert _content(tmp_path / "here") == _content(tmp_path / "on-spark")


def test_little_work_opens_no_session(raw: Path, tmp_path: Path, sessions: list[str]) -> None:
    config = IngestConfig(raw=(str(raw),), lake=str(tmp_path / "lake"))

    assert api.ingest(config)["read"] == 3
    assert api.ingest(config)["skipped_unchanged"] == 3
    assert sessions == []


def test_it_says_where_it_is(
    raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delenv("SLICEMILL_MASTER", raising=False)
    monkeypatch.setattr(scan_ingest, "_LOG_SECONDS", 0.0)
    with caplog.at_level(logging.INFO, "slicemill"):
        ingest.run(IngestConfig(raw=(str(raw),), lake=str(tmp_path / "lake")))

    assert [line for line in caplog.messages if "scans read" in line] == [
        "1 of 3 scans read",
        "2 of 3 scans read",
    ]


@pytest.mark.parametrize("reason", ["much work", "SLICEMILL_MASTER", "PYSPARK_GATEWAY_PORT"])
def test_what_goes_to_spark(
    reason: str, raw: Path, tmp_path: Path, sessions: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    if reason == "much work":
        monkeypatch.setattr(ingest, "HERE_BYTES", 1_000)
    else:
        monkeypatch.setenv(reason, "1")

    with pytest.raises(RuntimeError, match="a session was opened"):
        api.ingest(IngestConfig(raw=(str(raw),), lake=str(tmp_path / "lake")))

    assert sessions == ["ingest"]
