"""A plain process a core, each with its share of the scans and one thread: a script of an afternoon."""

from __future__ import annotations

import multiprocessing
import os

import numpy as np
from network import BATCH, Network, Work, command_line, scans, volume, write_masks


def predict(work: Work, part: int, parts: int) -> None:
    """Predict every `parts`-th scan."""
    network = Network(work.run, work.engine, threads=1)
    for paths in scans(work.raw)[part::parts]:
        images = volume(paths)
        batches = [network.probabilities(images[at : at + BATCH]) for at in range(0, len(images), BATCH)]
        write_masks(paths, np.concatenate(batches), network.threshold, work.out)


if __name__ == "__main__":
    work, cores = command_line(), len(os.sched_getaffinity(0))
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=predict, args=(work, part, cores)) for part in range(cores)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    raise SystemExit(max(process.exitcode or 0 for process in processes))
