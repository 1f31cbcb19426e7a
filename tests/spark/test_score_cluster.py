"""Scoring on real executor processes that die: the outputs are those of an undisturbed run."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
from pyspark.sql import SparkSession
from raw_builder import write_scan
from run_builder import write_run
from score_outputs import Outputs, outputs

from slicemill.config import ScoreConfig
from slicemill.io.storage.uri import canonical
from slicemill.pipelines import score

pytestmark = pytest.mark.slow

SCANS = 30


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("cluster")
    for number in range(SCANS):
        write_scan(home / "raw", f"TEST_AA_{number:04}_20200101", slices=1 + number % 7)
    write_run(canonical(str(home / "run")), size=64)
    return home


@pytest.fixture(scope="module")
def expected(home: Path, spark: SparkSession) -> Outputs:
    """What an undisturbed run in one process leaves."""
    out = home / "undisturbed"
    score.run(ScoreConfig(model=str(home / "run"), out=str(out), raw=(str(home / "raw"),)), spark)
    return outputs(out)


def start(home: Path, out: Path) -> subprocess.Popen[str]:
    """`slicemill score` on a cluster of two executors with a core each, in its own process group."""
    command = [str(Path(sys.executable).parent / "slicemill"), "score", "--model", str(home / "run")]
    return subprocess.Popen(
        [*command, "--raw", str(home / "raw"), "--out", str(out)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
        # Executors do not read SPARK_SUBMIT_OPTS, every JVM reads this.
        env={
            **os.environ,
            "SLICEMILL_MASTER": "local-cluster[2,1,1024]",
            "JAVA_TOOL_OPTIONS": os.environ["SPARK_SUBMIT_OPTS"],
        },
    )


def finish(process: subprocess.Popen[str]) -> dict[str, Any]:
    said, _ = process.communicate(timeout=400)
    summary: dict[str, Any] = json.loads(said.splitlines()[-1])
    return summary


def wait_for(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 300
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError
        time.sleep(0.02)


def entries(out: Path) -> int:
    return len(list((out / "manifest").glob("*.parquet"))) if (out / "manifest").exists() else 0


def executors(process: subprocess.Popen[str]) -> list[psutil.Process]:
    found = []
    for child in psutil.Process(process.pid).children(recursive=True):
        # Spark's short-lived helpers end between the listing and the look.
        with suppress(psutil.NoSuchProcess):
            if "CoarseGrainedExecutorBackend" in " ".join(child.cmdline()):
                found.append(child)
    return found


def test_a_driver_that_is_killed_two_that_start_again_at_once_and_an_executor_that_is_killed(
    home: Path, expected: Outputs
) -> None:
    out = home / "scores"
    process = start(home, out)
    wait_for(lambda: entries(out) >= 2)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    done = entries(out)
    assert 0 < done < SCANS
    assert not (out / "patients").exists()

    both = [start(home, out), start(home, out)]
    wait_for(lambda: entries(out) > done and any(map(executors, both)))
    before_the_kill = entries(out)
    (scorer,) = [process for process in both if executors(process)]
    executors(scorer)[0].kill()
    summary, other = finish(scorer), finish(next(process for process in both if process is not scorer))

    assert before_the_kill < SCANS
    assert summary["status"] == "done"
    # A worker of the first run may have ended its scan after its driver.
    assert 0 < summary["scored"] <= SCANS - done
    # It is refused, or comes so late that nothing is left.
    assert other["status"] == "done" or "another run is writing" in other["error"]
    assert outputs(out) == expected
