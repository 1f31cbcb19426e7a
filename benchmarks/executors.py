"""How ingest and scoring grow with executors, on Spark's own cluster of this machine.

    python benchmarks/executors.py --raw FOLDER [--model RUN] [--scans 24] [--executors 1 2 4]

Each number of executors, of one core each, runs `slicemill ingest` and `slicemill score` as processes of
their own on `local-cluster`: a JVM and Python workers an executor, as on YARN. One executor runs both on half
of the scans too. What does not grow between the two sizes is the start; the rest is the work. From both
follows what more executors would take if they shared the work, up to the cores of this machine.

It prints a table; the last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from pathlib import Path

from ingest import SLICE_FILE, scan_folders
from machine import describe
from scale import Step, step
from score import untrained

from slicemill.io.storage.uri import canonical

NETWORK = "unet-lite0"
#: MiB of an executor's JVM.
HEAP = 1024


def links(raw: Path, scans: int, home: Path) -> int:
    """Link so many scans, evenly from all, into `home`; the number of their slices."""
    folders = scan_folders(raw)
    home.mkdir(parents=True)
    for folder in folders[:: max(1, len(folders) // scans)][:scans]:
        (home / folder.name).mkdir()
        for path in folder.glob("*.tif"):
            (home / folder.name / path.name).symlink_to(path)
    return sum(1 for path in home.glob("*/*.tif") if SLICE_FILE.search(path.name))


def both(home: Path, raw: Path, model: Path, executors: int, scans: int) -> dict[str, Step]:
    """Ingest and score `raw` into `home`."""
    master = f"local-cluster[{executors},1,{HEAP}]"
    ingest = ("ingest", "--raw", raw, "--lake", home / "lake")
    score = ("score", "--model", model, "--raw", raw, "--out", home / "scores", "--tta", "none")
    return {verb[0]: step(str(verb[0]), scans, *verb, master=master) for verb in (ingest, score)}


def main() -> None:
    """Run every number of executors and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--raw", required=True, type=Path)
    parser.add_argument("--model", type=Path, help="an untrained network by default")
    parser.add_argument("--scans", type=int, default=24)
    parser.add_argument("--executors", type=int, nargs="+", default=[1, 2, 4])
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        model = options.model or home / "run"
        if not options.model:
            untrained(canonical(str(model)), NETWORK)
        raw = options.raw.resolve()
        slices = {part: links(raw, options.scans // part, home / f"raw-{part}") for part in (1, 2)}
        half = both(home / "half", home / "raw-2", model, 1, options.scans // 2)
        runs = {
            number: both(home / str(number), home / "raw-1", model, number, options.scans)
            for number in sorted({1, *options.executors})
        }
    rows = [row(verb, runs, half[verb], slices) for verb in ("ingest", "score")]
    counts = list(runs)
    print(f"| | start s | work, ms a slice | {' | '.join(f'{number} executors, s' for number in counts)} |")
    print("| --- " * (len(counts) + 3) + "|")
    for each in rows:
        cells = [f"{taken:.1f} ({foretold:.1f} foretold)" for taken, foretold in each["seconds"].values()]
        print(f"| {each['verb']} | {each['start']:.1f} | {each['work_ms']:.1f} | {' | '.join(cells)} |")
    print(json.dumps({"rows": rows, "slices": slices[1], **describe()}))


def row(verb: str, runs: dict[int, dict[str, Step]], half: Step, slices: dict[int, int]) -> dict[str, object]:
    """Start and work of a verb by two sizes, and by executors the seconds taken and those foretold."""
    whole = runs[1][verb].seconds
    work = max(0.0, (whole - half.seconds) / (slices[1] - slices[2]))
    start = whole - work * slices[1]
    cores = len(os.sched_getaffinity(0))
    return {
        "verb": verb,
        "start": round(start, 2),
        "work_ms": round(1000 * work, 2),
        "seconds": {
            number: (
                round(run[verb].seconds, 1),
                round(start + work * slices[1] / min(number, cores), 1),
            )
            for number, run in runs.items()
        },
        "worker_mib": {number: round(run[verb].worker_mib) for number, run in runs.items()},
        "driver_mib": {number: round(run[verb].python_mib) for number, run in runs.items()},
    }


if __name__ == "__main__":
    main()
