"""What a training step and an epoch cost on this machine, in seconds, from a few steps that are undone."""

from __future__ import annotations

import copy
import itertools
import time
from typing import Any

from slicemill.core.training.plan import labelled_slices
from slicemill.model.training.learner import Learner
from slicemill.model.training.loop import open_epoch, prepared
from slicemill.model.training.step import take_step

#: Steps that are tried and undone, the first of which do not count.
_TRIED, _WARM = 6, 2

#: Cost of validating a slice, in steps' cost of training one: no backward pass, but full resolution.
_VALIDATION_COST = 0.5


def tried_step_seconds(learner: Learner, size: int) -> float:
    """What a step takes with a network input of `size` pixels a side; the learner is as before."""
    parts: list[Any] = [learner.network, learner.optimiser, learner.scaler]
    if learner.average is not None:
        parts.append(learner.average)
    before = [copy.deepcopy(part.state_dict()) for part in parts]
    times = []
    for batch in itertools.islice(open_epoch(learner, 0), _TRIED):
        started = time.perf_counter()
        take_step(learner, prepared(learner, batch, size))
        times.append(time.perf_counter() - started)
    for part, state in zip(parts, before, strict=True):
        part.load_state_dict(state)
    counted = times[_WARM:] or times
    return sum(counted) / len(counted)


def validation_seconds(learner: Learner, step_seconds: float) -> float:
    """What a pass over the validation part takes, where a training step takes `step_seconds`."""
    plan = learner.plan
    steps = max(labelled_slices(share) for share in plan.validation) / plan.batch_per_rank
    return step_seconds * _VALIDATION_COST * steps


def epoch_seconds(learner: Learner, step_seconds: float) -> float:
    """What an epoch takes, validation included."""
    return step_seconds * learner.plan.steps_per_epoch + validation_seconds(learner, step_seconds)


def growth(size: int, tried: int) -> float:
    """Cost at one size of the network's input in costs at another: it follows the pixels."""
    return (size / tried) ** 2
