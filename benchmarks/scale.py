"""How each verb grows with the number of scans, and what one very long scan takes.

    python benchmarks/scale.py [--scans 10000] [--slices 2000] [--verbs ingest split score report]

Tiny synthetic scans of one slice each, their masks hard links, go through `slicemill`: ingest, ingest with
nothing new, split, score, score with 20 new scans, report. Each step is a process of its own, of which are
taken: seconds, those for which its Python process was busy, and the most memory of that and of its JVM. All
this is done for three numbers of scans, a sixteenth and a quarter first: from these two a straight line
foretells the third, and what takes `FASTER` times as much as foretold grows faster than the work. Then one
scan of --slices slices is ingested and scored, of which the memory of a worker counts too.

`--verbs` leaves the others out, except what a verb needs of them.

It prints a table; the last line is one JSON object.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from machine import describe
from PIL import Image
from score import untrained

from slicemill.io.storage.uri import canonical

SIDE, LONG_SIDE = 32, 256
VERBS = ("ingest", "split", "score", "report")
#: Scans that come in after all others were scored.
NEW_SCANS = 20
#: Distinct images that a long scan's slices are hard links to.
LONG_IMAGES = 40
#: Of what a straight line foretells: more of it grows faster than the work.
FASTER = 1.3
#: Differences below these are taken for noise.
NOISE_SECONDS, NOISE_MIB = 2.0, 50.0


@dataclass
class Peaks:
    """The most MiB that the processes of a verb held: its own, its JVM, and one Python worker.

    `busy` are seconds of processor time of its own process.
    """

    busy: float = 0.0
    python: float = 0.0
    jvm: float = 0.0
    worker: float = 0.0

    def look(self, process: int) -> None:
        """Look at a process and at all that it started."""
        self.python = max(self.python, high_water(process))
        times = psutil.Process(process).cpu_times()
        self.busy = times.user + times.system
        for child in psutil.Process(process).children(recursive=True):
            with suppress(psutil.NoSuchProcess):
                command = " ".join(child.cmdline())
                if "pyspark.daemon" in command:
                    self.worker = max(self.worker, high_water(child.pid))
                elif "SparkSubmit" in command:
                    self.jvm = max(self.jvm, high_water(child.pid))


@dataclass(frozen=True)
class Step:
    """What one process took: seconds, those for which it was busy, and MiB of Python, JVM and worker."""

    name: str
    scans: int
    seconds: float
    driver_seconds: float
    python_mib: float
    jvm_mib: float
    worker_mib: float


def high_water(process: int) -> float:
    """The most MiB that a process has held; 0 once it has ended."""
    try:
        status = Path(f"/proc/{process}/status").read_text()
    except OSError:
        return 0.0
    match = re.search(r"VmHWM:\s+(\d+) kB", status)
    return int(match[1]) / 1024 if match else 0.0


def step(name: str, scans: int, *arguments: object, master: str = "") -> Step:
    """Run a verb of `slicemill` in a process of its own; SystemExit if it does not end well."""
    command = [str(Path(sys.executable).parent / "slicemill"), *map(str, arguments)]
    # Named, the session is the same for every step: little work would else be scored without Spark.
    master = master or f"local[{len(os.sched_getaffinity(0))},3]"
    peaks, start = Peaks(), time.monotonic()
    with tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env={**os.environ, "SLICEMILL_MASTER": master},
        )
        while process.poll() is None:
            with suppress(psutil.NoSuchProcess):
                peaks.look(process.pid)
            time.sleep(0.2)
        seconds = time.monotonic() - start
        if process.returncode:
            errors.seek(0)
            raise SystemExit(f"{' '.join(command)}\n{errors.read()[-2000:]}")
    done = Step(name, scans, seconds, peaks.busy, peaks.python, peaks.jvm, peaks.worker)
    print(line(done), file=sys.stderr)
    return done


def save(path: Path, pixels: np.ndarray) -> None:
    """Write a TIFF."""
    Image.fromarray(pixels).save(path)


def blob(side: int, top: int) -> np.ndarray:
    """A mask, 0/255, with a square tumour."""
    mask = np.zeros((side, side), np.uint8)
    mask[top : top + side // 4, side // 4 : side // 2] = 255
    return mask


def head(side: int, draw: np.random.Generator) -> np.ndarray:
    """An image of three channels: noise on a bright disk on black, as of a head."""
    rows, columns = np.ogrid[:side, :side]
    inside = (rows - side / 2) ** 2 + (columns - side / 2) ** 2 < (0.4 * side) ** 2
    noise = draw.integers(60, 200, (side, side, 3), dtype=np.uint8)
    return np.where(inside[..., None], noise, 0).astype(np.uint8)


def write_scans(raw: Path, numbers: range) -> None:
    """Scans of one slice, each with an image of its own; the mask of all of them is one file.

    Each link to a file changes its time of change, and with it the fingerprint of every scan that has it: so
    scans that come later have another mask.
    """
    raw.mkdir(parents=True, exist_ok=True)
    draw = np.random.default_rng(numbers.start)
    mask = raw.parent / f"mask-{numbers.start}.tif"
    save(mask, blob(SIDE, SIDE // 3))
    for number in numbers:
        scan_id = f"SCALE_{number % 20:02}_{number:06}_20200101"
        (raw / scan_id).mkdir()
        save(raw / scan_id / f"{scan_id}_1.tif", head(SIDE, draw))
        os.link(mask, raw / scan_id / f"{scan_id}_1_mask.tif")


def write_long_scan(raw: Path, slices: int) -> None:
    """One scan of so many slices, all of them hard links."""
    draw = np.random.default_rng(0)
    scan_id = "SCALE_00_LONG_20200101"
    (raw / scan_id).mkdir(parents=True)
    for number in range(LONG_IMAGES):
        save(raw.parent / f"image-{number}.tif", head(LONG_SIDE, draw))
        save(raw.parent / f"mask-{number}.tif", blob(LONG_SIDE, LONG_SIDE // 4 + number))
    for number in range(1, slices + 1):
        for kind, ending in (("image", ".tif"), ("mask", "_mask.tif")):
            master = raw.parent / f"{kind}-{number % LONG_IMAGES}.tif"
            os.link(master, raw / scan_id / f"{scan_id}_{number}{ending}")


def many_scans(home: Path, model: Path, scans: int, verbs: Collection[str]) -> Iterator[Step]:
    """The steps of `verbs` over `scans` scans of one slice."""
    raw, lake, scores = home / "raw", home / "lake", home / "scores"
    write_scans(raw, range(scans))
    ingest = ("ingest", "--raw", raw, "--lake", lake)
    if {"ingest", "split", "report"} & set(verbs):
        yield step("ingest", scans, *ingest)
    if "ingest" in verbs:
        yield step("ingest, nothing new", scans, *ingest)
    if "split" in verbs:
        fractions = ("--fractions", "0.7,0.15,0.15")
        yield step("split", scans, "split", "--lake", lake, "--name", "parts", *fractions, "--seed", 1)
    score = ("score", "--model", model, "--raw", raw, "--out", scores)
    if {"score", "report"} & set(verbs):
        yield step("score", scans, *score)
    if "score" in verbs:
        write_scans(raw, range(scans, scans + NEW_SCANS))
        yield step(f"score, {NEW_SCANS} new", scans, *score)
    if "report" in verbs:
        yield step("report", scans, "report", "--lake", lake, "--scores", scores, "--out", home / "report")


def long_scan(home: Path, model: Path, slices: int) -> Iterator[Step]:
    """Ingest and scoring of one scan of `slices` slices."""
    write_long_scan(home / "raw", slices)
    name = f"of one scan of {slices} slices"
    yield step(f"ingest {name}", 1, "ingest", "--raw", home / "raw", "--lake", home / "lake")
    yield step(f"score {name}", 1, "score", "--model", model, "--raw", home / "raw", "--out", home / "scores")


def growth(sizes: list[int], values: list[float], noise: float) -> float:
    """The last value over what a straight line through the two before it foretells."""
    (first, second, last), (low, middle, high) = sizes, values
    slope = max(0.0, (middle - low) / (second - first))
    return (high + noise) / (middle + slope * (last - second) + noise)


def growths(steps: list[list[Step]]) -> dict[str, dict[str, float]]:
    """Growth of seconds and of memory, by step; `steps` are those of each of the three sizes."""
    noise = {"seconds": NOISE_SECONDS, "driver_seconds": NOISE_SECONDS, "python_mib": NOISE_MIB}
    return {
        same[0].name: {
            name: growth([one.scans for one in same], [getattr(one, name) for one in same], tolerance)
            for name, tolerance in noise.items()
        }
        for same in zip(*steps, strict=True)
    }


def line(of_step: Step, growth_of: dict[str, float] | None = None) -> str:
    """A row of the table."""
    seconds = f"{of_step.seconds:8.1f} {of_step.driver_seconds:8.1f}"
    numbers = f"{seconds} {of_step.seconds / of_step.scans:8.4f}"
    memory = f"{of_step.python_mib:8.0f} {of_step.jvm_mib:8.0f} {of_step.worker_mib:8.0f}"
    ratios = "" if growth_of is None else "".join(f"{ratio:9.2f}" for ratio in growth_of.values())
    return f"{of_step.name:32} {of_step.scans:6} {numbers} {memory} {ratios}"


def main() -> None:
    """Run all steps and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scans", type=int, default=10_000, help="below 64 nothing is said of growth")
    parser.add_argument("--slices", type=int, default=2000, help="of the long scan; 0 leaves it out")
    parser.add_argument("--verbs", nargs="+", choices=VERBS, default=VERBS)
    options = parser.parse_args()
    sizes = [options.scans // 16, options.scans // 4, options.scans]
    if sizes[0] < 4:
        sizes = [options.scans]
    steps: list[list[Step]] = []
    long_steps: list[Step] = []
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder, "run")
        untrained(canonical(str(model)), "unet-resnet18", size=64)
        for scans in sizes:
            steps.append(list(many_scans(Path(folder, str(scans)), model, scans, options.verbs)))
        if options.slices:
            long_steps = list(long_scan(Path(folder, "long"), model, options.slices))
    by_step = growths(steps) if len(sizes) > 1 else {}
    heads = f"{'s':>8} {'driver s':>8} {'s/scan':>8} {'Python':>8} {'JVM':>8} {'worker':>8}"
    print(f"{'step':32} {'scans':>6} {heads} growth: s, driver s, MiB")
    for of_step in [one for same in zip(*steps, strict=True) for one in same] + long_steps:
        print(line(of_step, by_step.get(of_step.name) if of_step.scans == sizes[-1] else None))
    faster = {name: ratios for name, ratios in by_step.items() if max(ratios.values()) > FASTER}
    if by_step:
        print(f"grows faster than the work: {', '.join(faster) or 'nothing'}")
    print(json.dumps(document(steps, long_steps, by_step, sorted(faster))))


def document(
    steps: list[list[Step]], long_steps: list[Step], by_step: dict[str, Any], faster: list[str]
) -> dict[str, Any]:
    """The last line."""
    all_steps = [one for same in steps for one in same] + long_steps
    return {
        "steps": [dataclasses.asdict(one) for one in all_steps],
        "growth": by_step,
        "grows_faster_than_the_work": faster,
        **describe(),
    }


if __name__ == "__main__":
    main()
