"""Networks alone, on whole slices in memory: slices a second, and share of the machine's peak.

    python benchmarks/networks.py [--networks unet-resnet18 unet-lite0] [--slices 8] [--rounds 5]

Each network is untrained, as `slicemill score` loads it, batch norms folded, at 256 pixels. A thread a core
computes, each with one thread of its engine, as a worker does. The peak is the most fp32 multiply-adds that a
matrix product of torch reaches on all cores, before and after, in the same run. bf16 may exceed it, where the
processor multiplies bf16. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import torch
from machine import describe
from score import SIZE, untrained
from whole import gflop_of_a_slice, peak_gflops

from slicemill.core.scans.scan import SEQUENCES
from slicemill.io.storage.uri import canonical
from slicemill.model.predicting.predictor import NetworkPredictor

#: Engine and arithmetic; int8 needs a network that was calibrated, and is measured by `slicemill quantise`.
SIDES = (("torch", "fp32"), ("onnx", "fp32"), ("torch", "bf16"))


def rate(predictor: NetworkPredictor, cores: int, slices: int, rounds: int) -> float:
    """Slices a second on all cores, in the best round, one slice at a time or the engine's usual batch."""
    batch = predictor.usual_batch_size
    images = torch.randn(batch, len(SEQUENCES), SIZE, SIZE).contiguous(memory_format=torch.channels_last)

    def compute(count: int) -> None:
        torch.set_num_threads(1)
        with torch.inference_mode():
            for _ in range(0, count, batch):
                predictor.logits(images)

    best = 0.0
    with ThreadPoolExecutor(cores) as pool:
        for number in range(rounds + 1):
            start = time.perf_counter()
            list(pool.map(compute, [max(slices, batch)] * cores))
            seconds = time.perf_counter() - start
            # The first round warms allocator and caches.
            if number:
                best = max(best, cores * max(slices, batch) / seconds)
    return best


def row(network: str, engine: str, slices: float, gflop: float, peak: float) -> dict[str, str | float]:
    """A network in an engine: its rate, the fp32 GFLOP of a slice, and its share of `peak` GFLOP a second."""
    return {
        "network": network,
        "engine": engine,
        "slices_per_second": round(slices, 1),
        "gflop_of_a_slice": round(gflop, 2),
        "share_of_peak": round(slices * gflop / peak, 2),
    }


def main() -> None:
    """Measure, print a table and the facts."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--raw", help="not used: the slices are noise")
    parser.add_argument("--networks", nargs="+", default=["unet-resnet18", "unet-lite0"])
    parser.add_argument("--slices", type=int, default=8, help="of a core and round")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    cores = len(os.sched_getaffinity(0))
    peaks = [peak_gflops(cores)]
    rates: dict[tuple[str, str, str], float] = {}
    with tempfile.TemporaryDirectory() as home:
        for network in options.networks:
            run = canonical(f"{home}/{network}")
            untrained(run, network)
            for engine, precision in SIDES:
                load = partial(NetworkPredictor.load, run, "cpu", precision, 1, engine=engine)
                rates[network, engine, precision] = rate(load(), cores, options.slices, options.rounds)
    peaks.append(peak_gflops(cores))
    rows = [
        row(network, f"{engine} {precision}", slices, gflop_of_a_slice(network), max(peaks))
        for (network, engine, precision), slices in rates.items()
    ]
    print("| network | engine | slices/s | GFLOP a slice | of the fp32 peak |\n" + "| --- " * 5 + "|")
    for each in rows:
        print("| " + " | ".join(str(value) for value in each.values()) + " |")
    print(json.dumps({"peak_gflops": [round(peak) for peak in peaks], "rows": rows, **describe()}))


if __name__ == "__main__":
    main()
