"""Every benchmark of the CPU in one go, and the page that says what they printed.

    python benchmarks/page.py --raw FOLDER [--only NAME ...] [--page docs/benchmarks.md]

Each script runs by itself, one after the other, on a machine that should do nothing else. A script that fails
stands on the page as failed, and the exit code is 1.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from machine import describe

HERE = Path(__file__).parent
#: Scripts in the order in which they run, with what they are asked.
SCRIPTS: dict[str, tuple[str, ...]] = {
    "startup": (),
    "networks": (),
    "whole": ("--scans", "6", "--rounds", "2"),
    "score": ("--scans", "12"),
    "ingest": (),
    "loader": ("--rounds", "2"),
    "train": ("--scans", "12"),
}
#: What every script prints of the machine; the page says it once.
MACHINE = ("machine", "versions")


@dataclass(frozen=True)
class Result:
    """What one script printed, and how long it took; no numbers if it failed."""

    name: str
    command: str
    seconds: float
    text: str
    numbers: Mapping[str, Any] | None


def run(name: str, raw: str) -> Result:
    """Run a script to its end."""
    options = ("--raw", raw, *SCRIPTS[name])
    print(f"{name} ...", file=sys.stderr, flush=True)
    start = time.monotonic()
    process = subprocess.run(
        (sys.executable, str(HERE / f"{name}.py"), *options), stdout=subprocess.PIPE, text=True, check=False
    )
    text, _, last = process.stdout.rstrip().rpartition("\n")
    numbers = json.loads(last) if process.returncode == 0 else None
    command = " ".join(("python", f"benchmarks/{name}.py", "--raw FOLDER", *SCRIPTS[name]))
    return Result(name, command, time.monotonic() - start, text, numbers)


def rows(numbers: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """A row a number, those of an inner object behind its name."""
    for name, value in numbers.items():
        label = f"{prefix}{name.replace('_', ' ')}"
        if isinstance(value, Mapping):
            yield from rows(value, f"{label}: ")
        elif isinstance(value, float):
            yield f"| {label} | {value:.3g} |" if abs(value) < 100 else f"| {label} | {value:,.0f} |"
        elif not isinstance(value, list):
            yield f"| {label} | {value} |"


def section(result: Result) -> str:
    """A script's part of the page."""
    head = f"## {result.name.capitalize()}\n\n`{result.command}`: {result.seconds / 60:.1f} minutes.\n"
    if result.numbers is None:
        return f"{head}\n**It failed.**\n"
    numbers = {name: value for name, value in result.numbers.items() if name not in (*MACHINE, "sides")}
    cells = list(rows(numbers))
    table = "\n".join(["| | |", "| --- | --- |", *cells]) if cells else ""
    return "\n\n".join(part for part in (head.rstrip(), result.text, table) if part) + "\n"


def page(results: list[Result], scans: int, only: list[str] | None) -> str:
    """The page, in Markdown."""
    machine = describe()
    facts, versions = machine["machine"], machine["versions"]
    packages = ", ".join(f"{name} {number}" for name, number in versions.items())
    options = f" --only {' '.join(only)}" if only else ""
    head = (
        "# Benchmarks\n\n"
        f"What `python benchmarks/page.py --raw FOLDER{options}` printed, in one run. "
        "Each script's own words say what its sides do; times move with the machine, ratios hold. "
        "What they mean: [numbers](numbers.md).\n\n"
        f"{datetime.now(UTC):%Y-%m-%d}, {facts['processor']}, {facts['cores']} cores, "
        f"{facts['memory_gib']} GiB; {scans} scans of the public LGG set; {packages}.\n"
    )
    return "\n".join([head, *(section(result) for result in results)])


def main() -> None:
    """Run the scripts and write the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--raw", required=True)
    parser.add_argument("--only", nargs="+", choices=tuple(SCRIPTS))
    parser.add_argument("--page", type=Path, default=HERE.parent / "docs" / "benchmarks.md")
    arguments = parser.parse_args()
    results = [run(name, arguments.raw) for name in arguments.only or SCRIPTS]
    scans = len({path.parent for path in Path(arguments.raw).rglob("*.tif")})
    arguments.page.write_text(page(results, scans, arguments.only))
    raise SystemExit(any(result.numbers is None for result in results))


if __name__ == "__main__":
    main()
