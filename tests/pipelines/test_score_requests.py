"""What scoring asks of S3, counted at the server."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import SparkSession
from raw_builder import write_scan
from run_builder import write_run

from slicemill.config import ScoreConfig
from slicemill.io import storage
from slicemill.io.storage.uri import canonical, join
from slicemill.pipelines import score


def upload(bucket: str, folder: Path) -> None:
    for path in folder.iterdir():
        storage.write_bytes(join(bucket, "raw", folder.name, path.name), path.read_bytes())


@pytest.mark.slow
def test_done_scans_cost_no_request_of_their_own(
    spark: SparkSession, bucket: str, counted: Any, tmp_path: Path
) -> None:
    write_run(canonical(str(tmp_path / "run")), size=32)
    for scan in range(40):
        upload(bucket, write_scan(tmp_path / "raw", f"TEST_AA_{scan:04}_20200101", slices=2, side=8))
    config = ScoreConfig(model=str(tmp_path / "run"), raw=(f"{bucket}/raw",), out=f"{bucket}/scores")
    assert score.run(config, spark)["scored"] == 40

    counted.take()
    assert score.run(config, spark)["skipped_done"] == 40
    again = counted.take()
    assert again["GET slice"] == again["HEAD slice"] == 0
    assert sum(again.values()) <= 20

    upload(bucket, write_scan(tmp_path / "raw", "TEST_AB_0000_20200101", slices=2, side=8))
    counted.take()
    found = score.run(config, spark)
    assert (found["scored"], found["skipped_done"]) == (1, 40)
    one_more = counted.take()
    assert one_more["GET slice"] == 4
    assert sum(one_more.values()) <= 40
