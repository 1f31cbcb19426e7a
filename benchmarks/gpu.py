"""Training on a GPU: slices a second, the share of a step that is the network's own, and how busy the GPU is.

    python benchmarks/gpu.py --raw FOLDER [--lake FOLDER] [--image-size 256] [--batch-size 16]

Epochs of training as `slicemill train` runs them, with each kind of `--cache`. Beside them the same step on
one batch of network input that lies on the GPU already. How busy the GPU is: the time of its kernels in an
epoch, by torch's profiler, over the epoch's wall time.

Without a GPU it says so in one line and measures nothing. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import statistics
import tempfile
import time
from pathlib import Path

import torch
from machine import describe
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile
from train import augmented, bench_lake, learner_for, plan_for, size_of

from slicemill.core.training.plan import TrainPlan, draws
from slicemill.core.training.schedule import Span
from slicemill.model.device import mark, wait_for
from slicemill.model.training.learner import Learner
from slicemill.model.training.loop import open_epoch, to_tensors, train_epoch
from slicemill.model.training.ranks import Rank
from slicemill.model.training.step import take_step

CACHES = ("none", "ram", "gpu")

#: Steps before those that are timed.
WARM_UP_STEPS = 10


def bare_step_seconds(learner: Learner, steps: int) -> float:
    """Seconds of a step on a batch that lies on the device."""
    plan = learner.plan
    fixed = to_tensors(next(iter(open_epoch(learner, 0))), learner.rank.device, size_of(plan))
    start = 0.0
    for step in range(WARM_UP_STEPS + steps):
        if step == WARM_UP_STEPS:
            wait_for(mark(learner.rank.device))
            start = time.perf_counter()
        take_step(learner, augmented(learner, *fixed))
    wait_for(mark(learner.rank.device))
    return (time.perf_counter() - start) / steps


def epoch_seconds(learner: Learner, rounds: int) -> float:
    """Median seconds of an epoch, the first not counted."""
    return statistics.median(
        [train_epoch(learner, epoch, Span(0.5, 1.0)).seconds for epoch in range(rounds + 1)][1:]
    )


def busy_share(learner: Learner) -> float:
    """Time of the GPU's kernels in an epoch over the epoch's wall time."""
    start = time.perf_counter()
    with profile(activities=[ProfilerActivity.CUDA]) as profiler:
        train_epoch(learner, 0, Span(0.5, 1.0))
        wait_for(mark(learner.rank.device))
        seconds = time.perf_counter() - start
    kernels = [event for event in profiler.events() or [] if event.device_type == DeviceType.CUDA]
    return sum(event.self_device_time_total for event in kernels) / 1e6 / seconds


def measured(plan: TrainPlan, rounds: int, device: torch.device) -> dict[str, dict[str, float]]:
    """What each kind of cache gives."""
    result = {}
    for cache in CACHES:
        settings = dataclasses.replace(plan.settings, cache=cache)
        learner = learner_for(dataclasses.replace(plan, settings=settings), Rank(0, 1, device))
        bare = bare_step_seconds(learner, plan.steps_per_epoch)
        epoch = epoch_seconds(learner, rounds)
        result[cache] = {
            "slices_per_second": round(draws(plan.train[0]) / epoch, 1),
            "share_of_bare_step": round(bare * plan.steps_per_epoch / epoch, 3),
            "bare_step_ms": round(1000 * bare, 2),
        }
        if device.type == "cuda":
            result[cache]["gpu_busy"] = round(busy_share(learner), 3)
    return result


def main() -> None:
    """Measure, or say that there is no GPU."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--raw")
    parser.add_argument("--lake")
    parser.add_argument("--scans", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--image-size", type=int, default=256)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--cpu", action="store_true", help="try the script itself, on a CPU")
    options = parser.parse_args()
    if not torch.cuda.is_available() and not options.cpu:
        print("no GPU: nothing was measured")
        raise SystemExit(1)
    if not (options.raw or options.lake):
        parser.error("give --raw or --lake")
    device = torch.device("cpu" if options.cpu else "cuda:0")
    with tempfile.TemporaryDirectory() as temporary:
        lake = bench_lake(options, Path(temporary))
        plan = plan_for(lake, options.scans, 1, options.image_size, options.batch_size)
        caches = measured(plan, options.rounds, device)
    gpu = None if options.cpu else torch.cuda.get_device_name(device)
    settings = {"image_size": options.image_size, "batch_size": options.batch_size, "model": plan.network}
    print(json.dumps({"gpu": gpu, "caches": caches, "settings": settings, **describe()}))


if __name__ == "__main__":
    main()
