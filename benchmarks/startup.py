"""How long small work takes, as whole processes: from the command to its last line.

    python benchmarks/startup.py --raw FOLDER [--rounds 3]

One scan is ingested, scored and predicted; what needs no scan is timed too: help, a refusal, the import.
The network is `unet-lite0` at 256 pixels, untrained. Seconds, by the clock and of CPU, are the least of the
rounds: what the machine does besides only adds to them. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from ingest import SLICE_FILE
from machine import describe
from process_tree import watched
from score import NETWORK, chosen, untrained

from slicemill.io.storage.uri import canonical

PROGRAM = str(Path(sys.executable).with_name("slicemill"))


def commands(home: Path, raw: Path, run: str) -> dict[str, tuple[Sequence[str], int]]:
    """What is timed, by name: the command, and the exit code that it ends with."""
    scan = next(path for path in raw.iterdir() if path.is_dir())
    lake = str(home / "lake")
    return {
        "import slicemill": ((sys.executable, "-c", "import slicemill"), 0),
        "slicemill --help": ((PROGRAM, "--help"), 0),
        "a lake that is not there": ((PROGRAM, "split", "--lake", str(home / "none"), "--name", "x"), 1),
        "ingest one scan": ((PROGRAM, "ingest", "--raw", str(raw), "--lake", lake), 0),
        "ingest again, nothing new": ((PROGRAM, "ingest", "--raw", str(raw), "--lake", lake), 0),
        "score one scan": (
            (PROGRAM, "score", "--model", run, "--raw", str(raw), "--out", str(home / "scores")),
            0,
        ),
        "predict one scan": (
            (PROGRAM, "predict", str(scan), "--model", run, "--out", str(home / "predicted")),
            0,
        ),
    }


def seconds(command: Sequence[str], code: int) -> tuple[float, float]:
    """Wall and CPU seconds of a command and all it starts; SystemExit for another exit code."""
    environment = {name: value for name, value in os.environ.items() if name != "SLICEMILL_MASTER"}
    start = time.perf_counter()
    with tempfile.TemporaryFile() as words:
        process = subprocess.Popen(command, env=environment, stdout=words, stderr=subprocess.STDOUT)
        cpu, _ = watched(process)
        wall = time.perf_counter() - start
        words.seek(0)
        if process.returncode != code:
            raise SystemExit(f"{command} ended with {process.returncode}: {words.read().decode()[-2000:]}")
    return wall, cpu


def main() -> None:
    """Time every command in every round, each round from nothing."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--raw", required=True)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    times: dict[str, list[tuple[float, float]]] = {}
    with tempfile.TemporaryDirectory() as temporary:
        home = Path(temporary)
        raw = chosen(Path(arguments.raw).resolve(), 1, home / "raw")
        slices = sum(1 for path in raw.rglob("*.tif") if SLICE_FILE.search(path.name))
        run = canonical(str(home / "run"))
        untrained(run, NETWORK)
        for _ in range(arguments.rounds):
            results = home / "results"
            results.mkdir()
            for name, (command, code) in commands(results, raw, run).items():
                times.setdefault(name, []).append(seconds(command, code))
            shutil.rmtree(results)
    least = {
        name: [round(min(column), 2) for column in zip(*pairs, strict=True)] for name, pairs in times.items()
    }
    walls = {name: wall for name, (wall, _) in least.items()}
    cpus = {name: cpu for name, (_, cpu) in least.items()}
    print(
        json.dumps(
            {
                "seconds": walls,
                "cpu_seconds": cpus,
                "slices": slices,
                "rounds": arguments.rounds,
                **describe(),
            }
        )
    )


if __name__ == "__main__":
    main()
