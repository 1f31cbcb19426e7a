"""The whole way on one machine: raw slices, lake, split, trained network, masks, Dice, report.

Called by `make demo`; every setting is an environment variable, an empty one means its default.

RAW         folder or s3:// URI of real scans; without it twelve synthetic ones are made
OUT         folder or s3:// URI for everything that is written (demo-out)
SCANS       synthetic scans to make (12)
EPOCHS, IMAGE_SIZE, BATCH_SIZE, PROCESSES
            of the training: 10, 96, 16, 2 on synthetic scans and 14, 96, 16, 2 on real ones
"""

from __future__ import annotations

import csv
import io
import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slicemill.errors import SlicemillError
from slicemill.io import storage
from slicemill.io.places import Scores
from slicemill.io.storage.uri import canonical, display, is_s3, join, local_path

SLICEMILL = str(Path(sys.executable).with_name("slicemill"))
MARK = ".slicemill-demo"
PARTS = ("raw", "lake", "run", "scores", "report")
COLUMNS = {
    "scan_id": "scan",
    "slices": "slices",
    "true_volume": "true voxels",
    "predicted_volume": "predicted",
    "hd95": "HD95",
    "slice_mean_dice": "slice mean",
    "dice": "Dice",
}


@dataclass(frozen=True)
class Plan:
    """What the demo does; URIs are canonical."""

    raw: str
    synthetic: bool
    out: str
    scans: int
    epochs: int
    image_size: int
    batch_size: int
    processes: int


class DemoError(Exception):
    """The demo can't go on; its text is one line for the user."""


def number(name: str, default: int) -> int:
    """A whole number from the environment."""
    text = os.environ.get(name) or str(default)
    if not text.isdecimal():
        raise DemoError(f"{name}={text} is no whole number")
    return int(text)


def read_plan() -> Plan:
    """The plan that the environment asks for."""
    raw, out = os.environ.get("RAW", ""), canonical(os.environ.get("OUT") or "demo-out")
    return Plan(
        raw=canonical(raw) if raw else join(out, "raw"),
        synthetic=not raw,
        out=out,
        scans=number("SCANS", 12),
        epochs=number("EPOCHS", 14 if raw else 10),
        image_size=number("IMAGE_SIZE", 96),
        batch_size=number("BATCH_SIZE", 16),
        processes=number("PROCESSES", 2),
    )


def make_room(plan: Plan) -> None:
    """Remove what an earlier demo left; refuse to touch a folder that no demo has made."""
    if is_s3(plan.out):
        if storage.list_or_none(plan.out):
            raise DemoError(f"{plan.out} is not empty; name another OUT")
        return
    folder = local_path(plan.out)
    if folder.exists() and any(folder.iterdir()) and not (folder / MARK).exists():
        raise DemoError(f"{folder} holds files that no demo wrote; name another OUT")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MARK).touch()
    for part in PARTS:
        shutil.rmtree(folder / part, ignore_errors=True)


def steps(plan: Plan) -> list[list[str]]:
    """The calls of `slicemill`, in order."""
    raw, home, run, scores, report = (
        display(uri) for uri in (plan.raw, *(join(plan.out, part) for part in PARTS[1:]))
    )
    split = ["--lake", home, "--split", "demo"]
    calls = [
        ["ingest", "--raw", raw, "--lake", home],
        ["split", "--lake", home, "--name", "demo", "--fractions", "0.7,0.1,0.2", "--seed", "0"],
        ["train", *split, "--out", run],
        ["score", "--model", run, *split, "--part", "test", "--out", scores],
        ["report", "--lake", home, "--run", run, "--scores", scores, "--out", report],
    ]
    for flag in ("epochs", "image_size", "batch_size"):
        calls[2] += [f"--{flag.replace('_', '-')}", str(getattr(plan, flag))]
    calls[2] += ["--num-processes", str(plan.processes), "--seed", "0"]
    if plan.synthetic:
        calls.insert(0, ["phantom", "--out", raw, "--scans", str(plan.scans), "--seed", "0"])
    if plan.synthetic or storage.exists(join(plan.raw, "data.csv")):
        calls[-5] += ["--clinical", display(join(plan.raw, "data.csv"))]
    return calls


def run_step(call: list[str]) -> dict[str, Any]:
    """Run one verb, its log on standard error as it comes; return its summary."""
    done = subprocess.run([SLICEMILL, *call], stdout=subprocess.PIPE, text=True, check=False)
    lines = done.stdout.splitlines()
    try:
        summary: dict[str, Any] = json.loads(lines[-1])
    except (IndexError, ValueError):
        summary = {"error": f"no summary, exit code {done.returncode}"}
    if done.returncode != 0:
        raise DemoError(f"{call[0]} failed: {summary.get('error', summary)}")
    return summary


def brief(summary: dict[str, Any]) -> str:
    """The counts of a summary in one line."""
    counts = {key: value for key, value in summary.items() if isinstance(value, int | float | dict)}
    counts.pop("seconds", None)
    return ", ".join(f"{key.replace('_', ' ')} {_short(value)}" for key, value in counts.items())


def _short(value: object) -> str:
    if isinstance(value, dict):
        return "/".join(str(share) for share in value.values())
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def dice_table(scores: str) -> list[str]:
    """Lines of a table with a row per scored scan, worst first, and the mean Dice."""
    text = storage.read_bytes(Scores(scores).patients_csv).decode("utf-8")
    rows = list(csv.DictReader(io.StringIO(text)))
    rows.sort(key=lambda row: float(row["dice"] or "nan"))
    cells = [list(COLUMNS.values())]
    cells += [[_cell(name, row[name]) for name in COLUMNS] for row in rows]
    dices = [float(row["dice"]) for row in rows if row["dice"]]
    if dices:
        mean = f"{sum(dices) / len(dices):.3f}"
        cells.append([f"mean of {len(dices)} scans", *[""] * (len(COLUMNS) - 2), mean])
    widths = [max(len(line[column]) for line in cells) for column in range(len(COLUMNS))]
    return [
        "  ".join(
            cell.ljust(width) if column == 0 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        for line in cells
    ]


def _cell(name: str, text: str) -> str:
    if not text:
        return "-"
    return f"{float(text):.3f}" if name in ("dice", "slice_mean_dice", "hd95") else text


def demo() -> None:
    """Run every step and print what came out."""
    start = time.monotonic()
    plan = read_plan()
    make_room(plan)
    calls = steps(plan)
    report = ""
    for index, call in enumerate(calls, start=1):
        print(f"\n[{index}/{len(calls)}] slicemill {shlex.join(call)}", flush=True)
        summary = run_step(call)
        report = str(summary.get("report", report))
        print(f"      {brief(summary)}; {summary.get('seconds', 0):.0f} s", flush=True)
    kind = "synthetic scans" if plan.synthetic else "scans"
    print(f"\nDice on the {kind} of patients that were kept out of training:\n")
    print("\n".join(dice_table(join(plan.out, "scores"))))
    print(f"\nmasks:  {display(join(plan.out, 'scores', 'masks'))}")
    print(f"report: {report}")
    print(f"done in {time.monotonic() - start:.0f} s")


def main() -> int:
    """Run the demo; one line on standard error and exit code 1 if it can't go on."""
    try:
        demo()
    except (DemoError, SlicemillError) as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("demo: interrupted", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
