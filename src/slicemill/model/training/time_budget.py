"""What a run's time affords: how many epochs, how far each takes the schedule, and how large pictures are.

A run begins on small pictures and ends on large ones (docs/training.md). Larger ones are better as long as
enough epochs are left to learn from them. What a step costs is tried on the machine itself, in a few steps
that are undone.
"""

from __future__ import annotations

import copy
import dataclasses
import itertools
import time
from typing import Any

from slicemill.core.training.plan import labelled_slices
from slicemill.core.training.schedule import SMALL_SHARE, InputSizes, Span, budget_span, epoch_span
from slicemill.core.training.state import RunState
from slicemill.model.device import mark, wait_for
from slicemill.model.training.learner import IMAGE_SIZES, Learner, input_sizes
from slicemill.model.training.loop import open_epoch, to_network_batch
from slicemill.model.training.ranks import from_first_rank
from slicemill.model.training.step import take_step

#: Steps that are tried and undone, the first of which do not count.
_TRIED, _WARM = 6, 2

#: Cost of validating a slice, in steps' cost of training one: no backward pass, but full resolution.
_VALIDATION_COST = 0.5

#: What a budget chooses among, and what it tries first.
_CHOICES, _FIRST_CHOICE = (64, 128, 192, 256), 128

#: Epochs of its own size that a choice must leave room for.
_LEAST_EPOCHS = 4

#: Of a time budget, kept for starting the ranks and publishing the model: seconds, and at most this share.
_RESERVE, _RESERVE_SHARE = 60.0, 1 / 3

#: Forward passes over the validation part after the last epoch, to choose the options of scoring.
_LAST_PASSES = 5


class TimeBudget:
    """Gives each epoch its span of the schedule, the same on every rank: by the clock or by number."""

    def __init__(self, learner: Learner, state: RunState) -> None:
        self._learner = learner
        self._launched = time.perf_counter() - state.seconds
        minutes = learner.plan.settings.budget_minutes
        self._budget = None if minutes is None else minutes * 60
        self._epoch_seconds, self._size = 0.0, self._size_after(state)
        self._reserve = _RESERVE
        if self._budget is not None:
            step = step_seconds(learner, self._size)
            self._epoch_seconds = epoch_seconds(learner, step)
            grown = step * growth(learner.execution.sizes.final, self._size)
            self._reserve += _LAST_PASSES * validation_seconds(learner, grown)

    @property
    def seconds(self) -> float:
        """Time that the run has taken so far, over all its launches."""
        return time.perf_counter() - self._launched

    def next_span(self, state: RunState) -> Span | None:
        """Span of the next epoch; None if the run is to end."""
        settings = self._learner.plan.settings
        waited = state.epochs_done - state.leading_epoch
        if settings.patience and state.epochs_done and waited >= settings.patience:
            return None
        if settings.epochs is not None and state.epochs_done >= settings.epochs:
            return None
        if self._budget is None:
            return epoch_span(state.epochs_done, settings.epochs or 0)
        remaining = self._budget - min(self._reserve, _RESERVE_SHARE * self._budget) - self.seconds
        next_epoch = self._epoch_seconds * growth(self._size_after(state), self._size)
        remaining, next_epoch = from_first_rank([remaining, next_epoch], self._learner.rank)
        return budget_span(state.progress, remaining, next_epoch)

    def note_epoch(self, seconds: float, span: Span) -> None:
        """Take note of what an epoch took, validation and checkpoint included."""
        self._epoch_seconds, self._size = seconds, self._learner.execution.sizes.during(span)

    def _size_after(self, state: RunState) -> int:
        """Rows and columns of the network's input in the next epoch, but for one that reaches far."""
        return self._learner.execution.sizes.during(Span(state.progress, state.progress))


def with_sizes(learner: Learner, state: RunState) -> tuple[Learner, RunState]:
    """Both with the sizes of their run settled, the same on every rank and after --resume.

    What trying them took counts as the run's own time.
    """
    start = time.perf_counter()
    sizes = state.sizes or _choose_sizes(learner)
    seconds = state.seconds + time.perf_counter() - start
    execution = dataclasses.replace(learner.execution, sizes=sizes)
    return (
        dataclasses.replace(learner, execution=execution),
        dataclasses.replace(state, sizes=sizes, seconds=seconds),
    )


def _choose_sizes(learner: Learner) -> InputSizes:
    settings, largest = learner.plan.settings, IMAGE_SIZES[learner.rank.device.type]
    if settings.image_size is None and settings.budget_minutes is not None:
        largest = _affordable(learner, settings.budget_minutes, largest)
    return input_sizes(settings, largest)


def _affordable(learner: Learner, minutes: float, largest: int) -> int:
    """The largest size of which the budget's last part holds some epochs."""
    least = max(_CHOICES[0], learner.plan.settings.first_size or 0)
    seconds = minutes * 60 * (1 - SMALL_SHARE)
    (step,) = from_first_rank([step_seconds(learner, _FIRST_CHOICE)], learner.rank)
    epoch = epoch_seconds(learner, step)
    fitting = [size for size in _CHOICES if _LEAST_EPOCHS * epoch * growth(size, _FIRST_CHOICE) <= seconds]
    return max([least, *(size for size in fitting if size <= largest)])


def step_seconds(learner: Learner, size: int) -> float:
    """What a step takes with a network input of `size` pixels a side; the learner is as before."""
    parts: list[Any] = [learner.network, learner.optimiser, learner.scaler]
    if learner.average is not None:
        parts.append(learner.average)
    before = [copy.deepcopy(part.state_dict()) for part in parts]
    times = []
    for batch in itertools.islice(open_epoch(learner, 0), _TRIED):
        start = time.perf_counter()
        take_step(learner, to_network_batch(learner, batch, size))
        wait_for(mark(learner.rank.device))
        times.append(time.perf_counter() - start)
    for part, state in zip(parts, before, strict=True):
        part.load_state_dict(state)
    warm_times = times[_WARM:] or times
    return sum(warm_times) / len(warm_times)


def validation_seconds(learner: Learner, step: float) -> float:
    """What a pass over the validation part takes, where a training step takes so many seconds."""
    plan = learner.plan
    steps = max(labelled_slices(share) for share in plan.validation) / plan.batch_per_rank
    return step * _VALIDATION_COST * steps


def epoch_seconds(learner: Learner, step: float) -> float:
    """What an epoch takes, validation included, where a step takes so many seconds."""
    return step * learner.plan.steps_per_epoch + validation_seconds(learner, step)


def growth(size: int, other: int) -> float:
    """Cost at one size of the network's input in costs at another: it follows the pixels."""
    return (size / other) ** 2
