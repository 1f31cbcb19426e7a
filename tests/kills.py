"""Kill -9 under real Spark, at random points; what is left after the next run is that of an undisturbed one.

    python tests/kills.py [--verbs ingest score train crossval] [--targets rank ...] [--rounds 2]

Each verb runs once undisturbed on `local-cluster[2,1,1024]`: a driver, its JVM, two executor JVMs and their
Python workers, and in training torchrun and its ranks. Then, `--rounds` times for each kind of process, one
process of that kind is killed at a random moment of the time that it lives for. What is not done by then is
run again, at once, and all objects are compared.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from lake_builder import tiny_scan, write_lake
from raw_builder import write_scan
from stored_objects import differences, objects

from slicemill.io.storage.uri import canonical

DRIVER, WORKER, EXECUTOR = "driver", "worker", "executor"
LAUNCHER, RANK = "launcher", "rank"
KINDS = (DRIVER, WORKER, EXECUTOR, LAUNCHER, RANK)
CLUSTER = "local-cluster[2,1,1024]"
#: Seconds between two looks at the processes, and those that a run may take.
LOOK, LIMIT = 0.1, 600.0
MOST_RUNS = 4

_RECIPE = ("--model", "monai-unet", "--filters", "4", "--image-size", "64", "--batch-size", "4")


@dataclass(frozen=True)
class Verb:
    """A verb with its arguments, what a later run of it adds to them, and what can be killed."""

    name: str
    arguments: tuple[str, ...]
    again: tuple[str, ...] = ()
    targets: tuple[str, ...] = (DRIVER, WORKER, EXECUTOR)


def verbs(home: Path, out: Path) -> dict[str, Verb]:
    """The verbs on what `prepare` has put into `home`, each writing to `out`."""
    raw = {name: ("--raw", str(home / name)) for name in ("many", "few")}
    training = ("--lake", str(home / "lake"), "--out", str(out), *_RECIPE, "--device", "cpu")
    return {
        "ingest": Verb("ingest", (*raw["many"], "--lake", str(out))),
        "score": Verb("score", ("--model", str(home / "run"), *raw["few"], "--out", str(out))),
        "train": Verb(
            "train",
            (*training, "--split", "parts", "--epochs", "5", "--num-processes", "2"),
            ("--resume",),
            KINDS,
        ),
        "crossval": Verb("crossval", (*training, "--split", "folds", "--epochs", "2"), targets=KINDS),
    }


def prepare(home: Path, names: Collection[str]) -> None:
    """What these verbs read: raw folders of many and of few scans, a model, a lake with parts and folds."""
    for name, folder, scans in (("ingest", "many", 200), ("score", "few", 30)):
        for number in range(scans if name in names else 0):
            write_scan(home / folder, f"TEST_AA_{number:04}_20200101", slices=1 + number % 7)
    if "score" in names:
        from run_builder import write_run  # imports torch, which the other verbs do in processes of their own

        write_run(canonical(str(home / "run")), size=128)
    tiny = [tiny_scan(f"s{number}", 16, (64, 64)) for number in range(9)]
    parts = {scan.patient_id: "val" if at > 6 else "train" for at, scan in enumerate(tiny)}
    folds = {scan.patient_id: f"fold-{at % 3}" for at, scan in enumerate(tiny)}
    write_lake(canonical(str(home / "lake")), tiny, {"parts": parts, "folds": folds})


class Run:
    """A verb at work in processes of its own."""

    def __init__(self, verb: Verb, scratch: Path, more: Iterable[str] = ()) -> None:
        place = Path(tempfile.mkdtemp(dir=scratch))
        self._said, self._errors = place / "said", place / "errors"
        command = [str(Path(sys.executable).parent / "slicemill"), verb.name, *verb.arguments, *more]
        places = {"SPARK_LOCAL_DIRS": str(scratch), "SPARK_WORKER_DIR": str(scratch)}
        # Executors do not read SPARK_SUBMIT_OPTS, every JVM reads this.
        jvm = {"JAVA_TOOL_OPTIONS": os.environ.get("SPARK_SUBMIT_OPTS", "")}
        with self._said.open("wb") as said, self._errors.open("wb") as errors:
            self.process = subprocess.Popen(
                command,
                stdout=said,
                stderr=errors,
                start_new_session=True,
                env={**os.environ, **places, **jvm, "SLICEMILL_MASTER": CLUSTER},
            )

    def alive(self) -> dict[str, list[psutil.Process]]:
        """Its processes by kind; those that nobody kills are under the empty word."""
        kinds: dict[str, list[psutil.Process]] = {}
        with suppress(psutil.NoSuchProcess):
            driver = psutil.Process(self.process.pid)
            kinds[DRIVER] = [driver]
            for child in driver.children(recursive=True):
                with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
                    kinds.setdefault(_kind(child), []).append(child)
        return kinds

    def ended(self) -> bool:
        """Whether the driver is gone."""
        return self.process.poll() is not None

    def summary(self) -> dict[str, Any]:
        """Its last line, once it has ended; of a driver that was killed only that it was."""
        self.process.wait(LIMIT)
        lines = self._said.read_bytes().splitlines()
        if self.process.returncode == -signal.SIGKILL or not lines:
            return {"status": "killed", "error": self.process.returncode}
        summary: dict[str, Any] = json.loads(lines[-1])
        return summary

    def last_words(self) -> str:
        """The end of its standard error."""
        return self._errors.read_bytes()[-3000:].decode(errors="replace")


def _kind(process: psutil.Process) -> str:
    command = " ".join(process.cmdline())
    if "CoarseGrainedExecutorBackend" in command:
        return EXECUTOR
    if "torch_run_process_wrapper" in command:
        return ""
    if "torch.distributed.run" in command:
        return LAUNCHER
    if "pyspark.daemon" in command:
        parent = process.parent()
        forked = parent is not None and "pyspark.daemon" in " ".join(parent.cmdline())
        return WORKER if forked else ""
    return RANK if "LOCAL_RANK" in process.environ() else ""


def lives(run: Run) -> dict[str, float]:
    """Seconds for which there were processes of each kind in an undisturbed run."""
    first: dict[str, float] = {}
    last: dict[str, float] = {}
    while not run.ended():
        now = time.monotonic()
        for kind in run.alive():
            first.setdefault(kind, now)
            last[kind] = now
        time.sleep(LOOK)
    return {kind: last[kind] - since for kind, since in first.items()}


def strike(run: Run, kind: str, seconds: float) -> tuple[bool, list[psutil.Process]]:
    """Kill a process of a kind so many seconds after the first of them was there, or the next that comes.

    Returns whether there still was one, and all processes of the run at that moment.
    """
    for delay in (0.0, seconds):
        time.sleep(delay)
        while not run.ended() and not run.alive().get(kind):
            time.sleep(LOOK)
    kinds = run.alive()
    family = [process for of_kind in kinds.values() for process in of_kind]
    for process in kinds.get(kind, ())[:1]:
        with suppress(psutil.NoSuchProcess):
            process.kill()
            return not (kind == DRIVER and run.process.wait(LIMIT) != -signal.SIGKILL), family
    return False, family


@dataclass
class Verdict:
    """What became of a round: was something killed, how did the run end, how many runs were needed.

    `outlived` are the seconds for which processes of the first run outlived its driver.
    """

    killed: bool
    status: str
    runs: int
    outlived: float
    differing: list[str]


def play(
    verb: Verb, kind: str, seconds: float, out: Path, scratch: Path, expected: Mapping[str, str]
) -> Verdict:
    """Kill once, run until it is done, and compare; RuntimeError if it is never done."""
    shutil.rmtree(out, ignore_errors=True)
    run = Run(verb, scratch)
    killed, family = strike(run, kind, seconds)
    summary = run.summary()
    status, runs, end = summary["status"], 1, time.monotonic()
    outlived = 0.0
    while summary["status"] != "done":
        if runs == MOST_RUNS:
            raise RuntimeError(f"{verb.name}, {kind}: {summary}\n{run.last_words()}")
        run, runs = Run(verb, scratch, verb.again), runs + 1
        if runs == 2:
            psutil.wait_procs(family, timeout=LIMIT)
            outlived = time.monotonic() - end
        summary = run.summary()
    return Verdict(killed, status, runs, outlived, differences(objects(out), expected))


def campaign(
    home: Path, verb: Verb, out: Path, rounds: int, chance: random.Random, targets: Collection[str]
) -> dict[str, Any]:
    """Play all rounds of a verb; AssertionError for one that ends otherwise than undisturbed."""
    scratch = home / "scratch"
    scratch.mkdir(exist_ok=True)
    shutil.rmtree(out, ignore_errors=True)
    undisturbed = Run(verb, scratch)
    seconds = lives(undisturbed)
    summary = undisturbed.summary()
    assert summary["status"] == "done", (summary, undisturbed.last_words())
    expected = objects(out)
    counts: dict[str, Counter[str]] = {}
    for kind in (kind for kind in verb.targets if kind in targets):
        for _ in range(rounds):
            verdict = play(verb, kind, chance.uniform(0, seconds[kind]), out, scratch, expected)
            say(f"{verb.name}, {kind}: {verdict}")
            assert not verdict.differing, (verb.name, kind, verdict.differing)
            of_kind = counts.setdefault(kind, Counter())
            of_kind["killed" if verdict.killed else "missed"] += 1
            of_kind[f"first run {verdict.status}"] += 1
            of_kind["runs"] += verdict.runs
    return {"objects": len(expected), **counts}


def say(line: str) -> None:
    """A line of progress."""
    sys.stderr.write(f"{line}\n")


def main() -> None:
    """Play rounds of the chosen verbs, and print how they ended."""
    names = ["ingest", "score", "train", "crossval"]
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--verbs", nargs="+", choices=names, default=names)
    parser.add_argument("--targets", nargs="+", choices=KINDS, default=KINDS)
    parser.add_argument("--rounds", type=int, default=2, help="for each kind of process")
    parser.add_argument("--seed", type=int, default=7)
    options = parser.parse_args()
    chance = random.Random(options.seed)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        home = Path(folder)
        prepare(home, options.verbs)
        for name in options.verbs:
            out = home / f"out-{name}"
            counts = campaign(home, verbs(home, out)[name], out, options.rounds, chance, options.targets)
            sys.stdout.write(json.dumps({"verb": name, **counts}) + "\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
