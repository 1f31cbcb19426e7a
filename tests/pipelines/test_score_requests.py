"""What scoring asks of S3, counted at the server."""

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
from run_builder import write_run

from slicemill.io.uri import canonical


def upload(client: Any, home: Path, *folders: Path) -> None:
    for path in (path for folder in folders for path in folder.iterdir()):
        client.put_object(Bucket="counted", Key=str(path.relative_to(home)), Body=path.read_bytes())


def score() -> dict[str, Any]:
    command = [str(Path(sys.executable).parent / "slicemill"), "score", "--raw", "s3://counted/raw"]
    done = subprocess.run(
        [*command, "--model", "s3://counted/run", "--out", "s3://counted/scores"],
        capture_output=True,
        text=True,
        env={**os.environ, "SLICEMILL_MASTER": "local[2]"},
        timeout=300,
        check=True,
    )
    summary: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return summary


@pytest.mark.slow
def test_done_scans_cost_no_request_of_their_own(counted_s3: Any, tmp_path: Path) -> None:
    client = boto3.client("s3", endpoint_url=os.environ["AWS_ENDPOINT_URL"])
    client.create_bucket(Bucket="counted")
    write_run(canonical(str(tmp_path / "run")), size=32)
    old = [
        write_scan(tmp_path / "raw", f"TEST_AA_{scan:04}_20200101", slices=2, side=8) for scan in range(40)
    ]
    upload(client, tmp_path, tmp_path / "run", *old)
    assert score()["scored"] == 40

    counted_s3.take()
    assert score()["skipped_done"] == 40
    again = counted_s3.take()
    assert again["GET slice"] == again["HEAD slice"] == 0
    assert sum(again.values()) <= 20

    upload(client, tmp_path, write_scan(tmp_path / "raw", "TEST_AB_0000_20200101", slices=2, side=8))
    counted_s3.take()
    found = score()
    assert (found["scored"], found["skipped_done"]) == (1, 40)
    one_more = counted_s3.take()
    assert one_more["GET slice"] == 4
    assert sum(one_more.values()) <= 40
