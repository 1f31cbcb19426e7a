"""What ingest asks of S3, counted at the server."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import SparkSession
from raw_builder import write_scan

from slicemill.config import IngestConfig
from slicemill.io import storage
from slicemill.io.storage.uri import join
from slicemill.pipelines import ingest


@pytest.mark.slow
def test_one_get_a_slice_once_and_one_list_a_thousand_keys(
    spark: SparkSession, bucket: str, counted: Any, tmp_path: Path
) -> None:
    objects = 0
    for scan in range(11):
        folder = write_scan(tmp_path, f"TEST_AA_{scan:04}_20200101", slices=10, side=8)
        for path in folder.iterdir():
            storage.write_bytes(join(bucket, "raw", str(path.relative_to(tmp_path))), path.read_bytes())
            objects += 1
    counted.take()
    config = IngestConfig(raw=(f"{bucket}/raw",), lake=f"{bucket}/lake")

    assert ingest.run(config, spark)["slices"] == 110
    first = counted.take()
    assert first["GET slice"] == objects
    assert first["HEAD slice"] == 0
    assert first["LIST raw"] == 1
    assert first["LIST"] <= 5

    assert ingest.run(config, spark)["skipped_unchanged"] == 11
    second = counted.take()
    assert second["GET slice"] == second["HEAD slice"] == 0
    assert second["LIST raw"] == 1
    # The lake's card, its tables, and the lock at each write: no request grows with the number of scans.
    assert second["GET"] + second["HEAD"] + second["LIST"] <= 24
