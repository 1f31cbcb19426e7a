"""The jobs as their users start them: other processes, real spark-submit, every URI in S3."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyspark
import pytest

from slicemill.io import storage
from slicemill.io.lake.reader import read_scans
from slicemill.io.storage.uri import canonical, join

ROOT = Path(__file__).parents[1]
BIN = Path(sys.executable).parent
WAYS = {
    "spark-submit": lambda job: [str(BIN / "spark-submit"), str(ROOT / "jobs" / f"{job}.py")],
    "python": lambda job: [sys.executable, str(ROOT / "jobs" / f"{job}.py")],
    "slicemill": lambda job: [str(BIN / "slicemill"), job],
}
#: Spark 3.5's spark-submit does not come back from a training on a local master: docs/emr.md.
TRAINING_WAY = "slicemill" if pyspark.__version__.startswith("3.") else "spark-submit"


def start(way: str, job: str, *arguments: str, code: int = 0) -> dict[str, Any]:
    """Run a job in a process of its own, away from the repository, and return its summary."""
    path = f"{BIN}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "SLICEMILL_MASTER": "local[2]"}
    done = subprocess.run(
        [*WAYS[way](job), *arguments],
        capture_output=True,
        text=True,
        env=environment,
        timeout=300,
        check=False,
    )
    assert done.returncode == code, done.stderr[-3000:]
    summary: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    assert summary["job"] == job
    return summary


def content(lake: str) -> dict[str, str]:
    return {row.scan_id: row.content_hash for row in read_scans(canonical(lake))}


@pytest.fixture(scope="module")
def home(phantom_raw: Path, module_bucket: str) -> str:
    """URI of a bucket with raw scans and, by `slicemill ingest`, their lake."""
    for path in phantom_raw.rglob("*"):
        if path.is_file():
            storage.write_bytes(
                join(module_bucket, "raw", str(path.relative_to(phantom_raw))), path.read_bytes()
            )
    raw, lake = join(module_bucket, "raw"), join(module_bucket, "lake")
    ingested = start("slicemill", "ingest", "--raw", raw, "--lake", lake, "--clinical", join(raw, "data.csv"))
    assert (ingested["scans"], ingested["quarantined"]) == (6, 0)
    return module_bucket


@pytest.mark.slow
@pytest.mark.parametrize("way", ["spark-submit", "python"])
def test_however_ingest_is_started_the_lake_is_the_same(
    home: str, phantom_raw: Path, tmp_path: Path, way: str
) -> None:
    lake = str(tmp_path / "lake")
    assert start(way, "ingest", "--raw", str(phantom_raw), "--lake", lake)["scans"] == 6
    by_slicemill = content(join(home, "lake"))
    assert len(by_slicemill) == 6
    assert content(lake) == by_slicemill


@pytest.mark.slow
def test_five_jobs_with_every_uri_in_s3(home: str) -> None:
    lake, run, scores, report = (join(home, name) for name in ("lake", "run", "scores", "report"))
    parts = start("python", "split", "--lake", lake, "--name", "demo", "--fractions", "0.5,0.2,0.3")[
        "patients"
    ]
    assert sum(parts.values()) == 6
    trained = start(
        TRAINING_WAY, "train", "--lake", lake, "--split", "demo", "--out", run, "--epochs", "1",
        "--image-size", "32", "--num-processes", "2",
    )  # fmt: skip
    assert trained["epochs"] == 1
    scored = start(
        "spark-submit", "score", "--lake", lake, "--split", "demo", "--model", run, "--out", scores
    )
    assert scored["scored"] == parts["test"]
    assert 0 <= scored["mean_patient_dice"] <= 1
    table = list(csv.DictReader(io.StringIO(storage.read_bytes(join(scores, "patients.csv")).decode())))
    assert len(table) == parts["test"]
    start("slicemill", "report", "--lake", lake, "--run", run, "--scores", scores, "--out", report)
    page = storage.read_bytes(join(report, "index.html")).decode()
    assert all(row["scan_id"] in page for row in table)


@pytest.mark.parametrize(
    ("job", "arguments", "code"),
    [
        ("ingest", ["--raw", "nowhere", "--lake", "lake"], 1),
        ("ingest", ["--raw", "nowhere"], 2),
        ("split", ["--lake", "nowhere", "--name", "s"], 1),
        ("split", ["--lake", "nowhere", "--name", "s", "--fractions", "2,0,0"], 2),
        ("report", ["--out", "r"], 2),
    ],
)
def test_a_users_mistake_is_one_line_and_an_exit_code(job: str, arguments: list[str], code: int) -> None:
    summary = start("slicemill", job, *arguments, code=code)
    assert summary["error"]
    assert "Traceback" not in summary["error"]
