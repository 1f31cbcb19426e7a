"""Training steps fed by the loader against steps on what lies in memory, and two ranks against one.

    python benchmarks/train.py --raw FOLDER [--lake FOLDER]

- A step fed by the loader, everything included: read, decode, shuffle, resize, normalise, augment, forward,
  backward, optimiser. Against the same augmentation, forward, backward and optimiser on one batch of network
  input that is in memory already. On a GPU where one is seen, else on the CPU with all its threads.
- Two gloo ranks of half the threads each against one rank with all of them: the same slices, the same batch
  of both together, on the CPU.

Without `--lake` the raw folder is ingested first. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import socket
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from machine import describe

from slicemill.config import IngestConfig, SplitConfig, TrainConfig
from slicemill.core.training.plan import TrainPlan, draws
from slicemill.core.training.schedule import Span
from slicemill.experiments.training import Sides, make_plan, resolve, scans_by_part
from slicemill.model.device import choose_device, choose_precision, to_device
from slicemill.model.networks.registry import architecture
from slicemill.model.training.learner import IMAGE_SIZES, Learner, make_learner
from slicemill.model.training.loop import open_epoch, to_network_batch, to_tensors, train_epoch
from slicemill.model.training.ranks import Rank, process_group
from slicemill.model.training.step import NetworkBatch, take_step
from slicemill.pipelines import ingest, split
from slicemill.spark.session import open_session

THREADS = len(os.sched_getaffinity(0))

#: The first epoch, or its first steps, that do not count.
WARM_UP_STEPS = 3


def learner_for(plan: TrainPlan, rank: Rank) -> Learner:
    """A new network and all that trains it."""
    torch.manual_seed(0)
    settings = plan.settings
    network = to_device(
        architecture(plan.network, settings.task).build(dataclasses.asdict(settings)), rank.device
    )
    return make_learner(plan, rank, network, choose_precision(settings.precision, rank.device))


def size_of(plan: TrainPlan) -> int:
    """Rows and columns of the network's input, in pixels."""
    return plan.settings.image_size or 0


def fed_and_in_memory(plan: TrainPlan, rounds: int) -> dict[str, float]:
    """Median seconds of a step of both kinds, in epochs by turns."""
    learner = learner_for(plan, Rank(0, 1, choose_device("auto")))
    fixed = to_tensors(next(iter(open_epoch(learner, 0))), learner.rank.device, size_of(plan))
    for _ in range(WARM_UP_STEPS):
        take_step(learner, augmented(learner, *fixed))
    seconds: dict[str, list[float]] = {"fed": [], "in_memory": []}
    for epoch in range(rounds):
        start = time.perf_counter()
        for batch in open_epoch(learner, epoch):
            take_step(learner, to_network_batch(learner, batch, size_of(plan)))
        seconds["fed"].append(time.perf_counter() - start)
        start = time.perf_counter()
        for _ in range(plan.steps_per_epoch):
            take_step(learner, augmented(learner, *fixed))
        seconds["in_memory"].append(time.perf_counter() - start)
    return {side: float(np.median(times)) / plan.steps_per_epoch for side, times in seconds.items()}


def augmented(
    learner: Learner, inputs: torch.Tensor, masks: torch.Tensor, weights: torch.Tensor
) -> NetworkBatch:
    """What `to_network_batch` does with network input."""
    if learner.augmentation is not None:
        with torch.no_grad():
            inputs, masks = learner.augmentation(inputs, masks)
    return NetworkBatch(inputs, masks, weights)


def rank_seconds(index: int, plan_json: str, threads: int, port: int, rounds: int, answer: Any) -> None:
    """Train on one rank, an epoch to warm up and some that are timed; rank 0 answers with their median."""
    plan = TrainPlan.from_json(plan_json)
    os.environ |= {
        "RANK": str(index),
        "WORLD_SIZE": str(plan.ranks),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }
    torch.set_num_threads(threads)
    with process_group(plan.ranks):
        learner = learner_for(plan, Rank(index, plan.ranks, torch.device("cpu")))
        timed = [train_epoch(learner, epoch, Span(0.0, 1.0)).seconds for epoch in range(rounds + 1)]
    if index == 0:
        answer.put(float(np.median(timed[1:])))


def epoch_seconds(plan: TrainPlan, rounds: int) -> float:
    """Seconds of an epoch on the plan's ranks, each a process of its own."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    answer = torch.multiprocessing.get_context("spawn").SimpleQueue()
    arguments = (plan.to_json(), max(1, THREADS // plan.ranks), port, rounds, answer)
    torch.multiprocessing.spawn(rank_seconds, args=arguments, nprocs=plan.ranks)
    return float(answer.get())


def plan_for(lake: str, scans: int, ranks: int, image_size: int, batch_size: int) -> TrainPlan:
    """A plan on the lake's first scans."""
    config = resolve(
        TrainConfig(
            lake=lake,
            split="bench",
            out=f"{lake}/run",
            image_size=image_size,
            first_size=image_size,
            batch_size=batch_size,
            num_processes=ranks,
            epochs=1,
        )
    )
    sides = scans_by_part(config)
    return make_plan(config, Sides(sides.train[:scans], ()), threads=THREADS // ranks)


def bench_lake(options: argparse.Namespace, home: Path) -> str:
    """A lake with a split of its own: that of --lake linked, or --raw ingested."""
    lake = home / "lake"
    if options.lake:
        lake.mkdir()
        for part in Path(options.lake).resolve().iterdir():
            if part.name not in ("splits", "_lock"):
                (lake / part.name).symlink_to(part)
    else:
        with open_session("bench") as spark:
            ingest.run(IngestConfig(raw=(str(Path(options.raw).resolve()),), lake=str(lake)), spark)
    split.run(SplitConfig(lake=str(lake), name="bench", fractions="1,0,0"))
    return str(lake)


def main() -> None:
    """Run all sides and print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--raw")
    parser.add_argument("--lake")
    parser.add_argument("--scans", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--batch-size", type=int, default=16)
    options = parser.parse_args()
    if not (options.raw or options.lake):
        parser.error("give --raw or --lake")
    size = IMAGE_SIZES["cuda" if torch.cuda.is_available() else "cpu"]
    with tempfile.TemporaryDirectory() as temporary:
        lake = bench_lake(options, Path(temporary))
        one = plan_for(lake, options.scans, 1, size, options.batch_size)
        seconds = fed_and_in_memory(one, options.rounds)
        cpu = [
            plan_for(lake, options.scans, ranks, IMAGE_SIZES["cpu"], options.batch_size) for ranks in (1, 2)
        ]
        alone, together = (epoch_seconds(plan, options.rounds) for plan in cpu)
    print(
        json.dumps(
            {
                "vs_in_memory_step": seconds["in_memory"] / seconds["fed"],
                "two_ranks_vs_one": alone / together,
                "step_seconds": seconds,
                "slices_per_second": {
                    "fed": round(one.batch_per_rank / seconds["fed"], 1),
                    "one_rank": round(draws(cpu[0].train[0]) / alone, 1),
                    "two_ranks": round(draws(cpu[0].train[0]) / together, 1),
                },
                "slices": draws(one.train[0]),
                "settings": {
                    name: dataclasses.asdict(one)["settings"][name]
                    for name in ("model", "image_size", "batch_size", "precision")
                },
                **describe(),
            }
        )
    )


if __name__ == "__main__":
    main()
