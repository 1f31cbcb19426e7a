"""Scoring as whole processes, from TIFF to TIFF, against what one would write instead.

    python benchmarks/whole.py --raw FOLDER [--scans 6] [--rounds 2] [--only NAME ...]

Every side starts from nothing, predicts the same slices with the same network (`unet-lite0` at 256 pixels,
untrained, no flips) and writes a mask a slice. slicemill also checks every file, and computes Dice, HD95,
tables and hashes. The peers stand in `benchmarks/peers`; Ray Data takes part where `ray[data]` is installed.

The sides take turns, so that a noisy minute meets all of them. CPU seconds and memory are of the whole
process tree. The rate of multiply-adds that the machine can do in fp32 is that of a large matrix product of
torch, in the same run. A table goes to standard output; its last line is one JSON object.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import torch
from ingest import SLICE_FILE
from machine import describe
from process_tree import watched
from score import NETWORK, SIZE, chosen, untrained
from torch.utils.flop_counter import FlopCounterMode

from slicemill.io.storage.uri import canonical
from slicemill.model.networks.registry import architecture

PEERS = Path(__file__).parent / "peers"
OURS_FP32 = "slicemill score, fp32"
#: The peer that the others are measured by.
PLAIN = "two plain processes, fp32"


@dataclass(frozen=True)
class Side:
    """One way to score: its command without --raw and --out, and what it adds to the environment."""

    command: tuple[str, ...]
    model_flag: str = "--run"
    environment: dict[str, str] = field(default_factory=dict)
    needs: str = "torch"


@dataclass(frozen=True)
class Measure:
    """What one run of a side took."""

    wall: float
    cpu: float
    peak_mib: float
    #: By slicemill's own count, while it scored.
    slices_per_second: float | None = None


def peer(script: str, engine: str, needs: str = "torch") -> Side:
    """A peer's script on one engine."""
    return Side((sys.executable, str(PEERS / script), "--engine", engine), needs=needs)


def ours(*options: str, master: str = "") -> Side:
    """`slicemill score` as a user runs it."""
    program = str(Path(sys.executable).with_name("slicemill"))
    environment = {"SLICEMILL_MASTER": master} if master else {}
    return Side((program, "score", *options), "--model", environment)


SIDES = {
    "slicemill score": ours(),
    OURS_FP32: ours("--precision", "fp32"),
    "slicemill score, on Spark": ours(master="local[2]"),
    PLAIN: peer("plain.py", "fp32"),
    "two plain processes, bf16": peer("plain.py", "bf16"),
    "two plain processes, ONNX Runtime": peer("plain.py", "onnx", needs="onnxruntime"),
    "torch DataLoader, fp32": peer("data_loader.py", "fp32"),
    "torch DataLoader, bf16": peer("data_loader.py", "bf16"),
    "Spark, pandas UDF, network loaded once": peer("spark_udf.py", "fp32"),
    "Spark, predict_batch_udf": peer("spark_predict_batch.py", "fp32"),
    "Ray Data": peer("ray_data.py", "fp32", needs="ray"),
}


def measured(side: Side, run: str, raw: Path, out: Path) -> Measure:
    """Run a side to its end; raise SystemExit with its last words if it fails."""
    command = [*side.command, side.model_flag, run, "--raw", str(raw), "--out", str(out)]
    inherited = {name: value for name, value in os.environ.items() if name != "SLICEMILL_MASTER"}
    peers = {"PYTHONPATH": str(PEERS), "PYSPARK_PYTHON": sys.executable}
    environment = {**inherited, **peers, **side.environment}
    log = out.with_suffix(".log")
    start = time.perf_counter()
    with log.open("w") as words:
        process = subprocess.Popen(command, env=environment, stdout=words, stderr=subprocess.STDOUT)
        seconds, peak = watched(process)
    wall = time.perf_counter() - start
    if process.returncode:
        raise SystemExit(f"{command} ended with {process.returncode}:\n{log.read_text()[-3000:]}")
    masks = sum(1 for _ in out.rglob("*.tif"))
    slices = sum(1 for path in raw.rglob("*.tif") if SLICE_FILE.search(path.name))
    if masks != slices:
        raise SystemExit(f"{command} wrote {masks} masks of {slices} slices")
    return Measure(wall, seconds, peak, own_rate(log))


def own_rate(log: Path) -> float | None:
    """Slices a second by slicemill's own summary."""
    last = log.read_text().rstrip().rpartition("\n")[2]
    return json.loads(last).get("slices_per_second") if last.startswith("{") else None


def peak_gflops(threads: int, side: int = 2048) -> float:
    """The most fp32 GFLOP a second of a matrix product on so many threads, best of ten."""
    torch.set_num_threads(threads)
    left, right = torch.randn(side, side), torch.randn(side, side)
    best = 0.0
    for _ in range(10):
        start = time.perf_counter()
        left @ right
        best = max(best, 2 * side**3 / (time.perf_counter() - start) / 1e9)
    return best


def gflop_of_a_slice(name: str = NETWORK) -> float:
    """fp32 GFLOP of a network for one slice; a multiply-add counts two."""
    network = architecture(name, "segment").build().eval()
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        network(torch.randn(1, 3, SIZE, SIZE))
    return counter.get_total_flops() / 1e9


def table(results: dict[str, list[Measure]], slices: int) -> str:
    """A row a side: medians over the rounds."""
    rows = ["| | wall s | CPU s | slices/s, start included | peak MiB | wall, of plain |", "| --- " * 6 + "|"]
    plain = median(each.wall for each in results[PLAIN]) if PLAIN in results else None
    for name, runs in results.items():
        wall, cpu, peak = (
            median(getattr(each, column) for each in runs) for column in ("wall", "cpu", "peak_mib")
        )
        share = f"{wall / plain:.2f}" if plain else ""
        rows.append(f"| {name} | {wall:.1f} | {cpu:.0f} | {slices / wall:.1f} | {peak:,.0f} | {share} |")
    return "\n".join(rows)


def facts(results: dict[str, list[Measure]], slices: int, peak: float) -> dict[str, Any]:
    """The run as one JSON object."""
    gflop = gflop_of_a_slice()
    rates = [each.slices_per_second or 0 for each in results.get(OURS_FP32, ())]
    share = round(median(rates) * gflop / peak, 3) if rates else None
    return {
        "slices": slices,
        "gflop_of_a_slice": round(gflop, 3),
        "peak_gflops": round(peak),
        "fp32_share_of_peak_while_scoring": share,
        "sides": {name: [vars(each) for each in runs] for name, runs in results.items()},
        **describe(),
    }


def main() -> None:
    """Let the sides take turns, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--raw", required=True)
    parser.add_argument("--scans", type=int, default=6)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--only", nargs="+", choices=tuple(SIDES))
    options = parser.parse_args()
    sides = {name: side for name, side in SIDES.items() if name in (options.only or SIDES)}
    results: dict[str, list[Measure]] = {}
    with tempfile.TemporaryDirectory() as temporary:
        home = Path(temporary)
        raw = chosen(Path(options.raw).resolve(), options.scans, home / "raw")
        slices = sum(1 for path in raw.rglob("*.tif") if SLICE_FILE.search(path.name))
        run = canonical(str(home / "run"))
        untrained(run, NETWORK)
        for number in range(options.rounds):
            for at, (name, side) in enumerate(sides.items()):
                if importlib.util.find_spec(side.needs) is None:
                    print(f"{name}: {side.needs} is not installed", file=sys.stderr)
                    continue
                results.setdefault(name, []).append(measured(side, run, raw, home / f"{number}-{at}"))
                print(name, results[name][-1], file=sys.stderr)
    print(table(results, slices))
    cores = len(os.sched_getaffinity(0))
    print(json.dumps(facts(results, slices, peak_gflops(cores))))


if __name__ == "__main__":
    main()
