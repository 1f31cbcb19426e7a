"""What ingest asks of S3, counted at the server."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import boto3
import pytest
from raw_builder import write_scan


def ingest() -> dict[str, Any]:
    command = [str(Path(sys.executable).parent / "slicemill"), "ingest", "--raw", "s3://counted/raw"]
    done = subprocess.run(
        [*command, "--lake", "s3://counted/lake"],
        capture_output=True,
        text=True,
        env={**os.environ, "SLICEMILL_MASTER": "local[2]"},
        timeout=300,
        check=True,
    )
    summary: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return summary


@pytest.mark.slow
def test_one_get_a_slice_once_and_one_list_a_thousand_keys(counted_s3: Any, tmp_path: Path) -> None:
    client = boto3.client("s3", endpoint_url=os.environ["AWS_ENDPOINT_URL"])
    client.create_bucket(Bucket="counted")
    objects = 0
    for scan in range(11):
        folder = write_scan(tmp_path, f"TEST_AA_{scan:04}_20200101", slices=10, side=8)
        for path in folder.iterdir():
            key = f"raw/{path.relative_to(tmp_path)}"
            client.put_object(Bucket="counted", Key=key, Body=path.read_bytes())
            objects += 1
    counted_s3.take()

    assert ingest()["slices"] == 110
    first = counted_s3.take()
    assert first["GET slice"] == objects
    assert first["HEAD slice"] == 0
    assert first["LIST raw"] == 1
    assert first["LIST"] <= 5

    assert ingest()["skipped_unchanged"] == 11
    second = counted_s3.take()
    assert second["GET slice"] == second["HEAD slice"] == 0
    assert second["LIST raw"] == 1
    # The lake's card, its three tables and the lock: no request grows with the number of scans.
    assert second["GET"] + second["HEAD"] + second["LIST"] <= 20
