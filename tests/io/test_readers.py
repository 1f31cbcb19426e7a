"""Readers of the lake that people bring along, as docs/ingest.md shows them. Spark is in the ingest tests."""

from __future__ import annotations

import re
from datetime import UTC, datetime

import duckdb
import polars as pl
import pytest
from lock_holder import held_fence
from raw_builder import write_scan

from slicemill.core.scans.discovery import FoundFile, discover
from slicemill.io import storage
from slicemill.io.lake.scan_ingest import ingest_scan
from slicemill.io.lake.writer import LakeWriter
from slicemill.io.storage.uri import canonical

PATIENTS = ["0042", "P 1", "\u60a3\u8005"]


@pytest.fixture(scope="module")
def slices(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Glob of the slices of a lake of three patients, whose ids other readers take for numbers or escape."""
    home = tmp_path_factory.mktemp("readers")
    for patient in PATIENTS:
        write_scan(home / "raw", f"{patient}_20200101", slices=1, side=8)
    stored = storage.list_files(canonical(str(home / "raw")))
    files = [FoundFile(file.uri, file.size, file.version) for file in stored]
    writer = LakeWriter(held_fence(str(home / "lake")), 0, "test", datetime.now(UTC))
    for task in discover(files, re.compile(r"(?P<patient_id>.+)_(?P<scan_date>\d{8})")).scans:
        ingest_scan(task, writer, 1_000)
    return f"{home}/lake/slices/**/*.parquet"


def test_polars_reads_patient_ids_as_they_are(slices: str) -> None:
    lazy = pl.scan_parquet(slices, hive_schema={"patient_id": pl.String})
    assert sorted(lazy.select("patient_id").collect()["patient_id"]) == PATIENTS


def test_duckdb_reads_patient_ids_as_they_are(slices: str) -> None:
    types = "hive_partitioning=true, hive_types={'patient_id': VARCHAR}"
    rows = duckdb.sql(f"select patient_id from read_parquet('{slices}', {types})").fetchall()
    assert sorted(patient for (patient,) in rows) == PATIENTS
