"""How many slices a CPU should take at once: tried on the worker, since processors differ in it.

Larger batches spare calls, smaller ones stay in the caches: on one machine 1 is fastest, on another 8.
"""

from __future__ import annotations

import hashlib
import json
import logging
import platform
import time
from collections.abc import Callable

import torch

from slicemill.io.machine import processor
from slicemill.io.storage.node_cache import read_or_make
from slicemill.model.predicting.predictor import NetworkPredictor

log = logging.getLogger(__name__)

#: Batch sizes that are tried, each on so many slices, and how often.
CANDIDATES, TRIAL_SLICES, ROUNDS = (1, 2, 4, 8), 8, 2

#: Share of its time that a batch size must save to be taken instead of the usual one: less is noise.
_LEAST_GAIN = 0.03


def batch_size_for(predictor: NetworkPredictor) -> int:
    """Slices of a forward pass on this machine: by a trial that the node remembers, or a GPU's usual number.

    The trial takes about 64 slices' time, once for a model, processor and number of threads.
    """
    usual = predictor.usual_batch_size
    if predictor.device.type != "cpu":
        return usual
    parts = [
        predictor.model_id,
        str(predictor.engine.facts),
        str(torch.get_num_threads()),
        processor(),
    ]
    name = "batch-size-" + hashlib.sha256("|".join([*parts, platform.node()]).encode()).hexdigest()
    stored = read_or_make(name, lambda: json.dumps(_trial(predictor, usual)).encode())
    size = json.loads(stored)
    return size if size in CANDIDATES else usual


def _trial(predictor: NetworkPredictor, usual: int) -> int:
    card = predictor.card
    slices = torch.zeros(TRIAL_SLICES, len(card.channels), card.input_size, card.input_size)
    slices = slices.contiguous(memory_format=torch.channels_last)

    def run(size: int) -> None:
        for start in range(0, TRIAL_SLICES, size):
            predictor.logits(slices[start : start + size])

    with torch.inference_mode():
        # Of one thread its own time alone: others of this process may read and write scans.
        clock = time.thread_time if torch.get_num_threads() == 1 else time.process_time
        size = fastest(run, usual, clock)
    log.info("model %s: %d slices at once are fastest here", predictor.model_id, size)
    return size


def fastest(run: Callable[[int], None], usual: int, clock: Callable[[], float] = time.process_time) -> int:
    """The candidate that takes least of `clock` in its best round; the usual one unless it is clearly slower.

    CPU time is the clock: on a shared machine the wall says more of the neighbours.
    """
    best = dict.fromkeys(CANDIDATES, float("inf"))
    for _ in range(ROUNDS):
        for size in CANDIDATES:
            start = clock()
            run(size)
            best[size] = min(best[size], clock() - start)
    choice = min(CANDIDATES, key=lambda size: best[size])
    return choice if best[choice] < best[usual] * (1 - _LEAST_GAIN) else usual
