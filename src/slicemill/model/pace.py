"""How many epochs a run makes, and how far each takes the schedule: by their number, or by the clock."""

from __future__ import annotations

import copy
import itertools
import time
from typing import Any

from slicemill.core.plan import labelled_slices
from slicemill.core.schedule import Span, budget_span, epoch_span
from slicemill.model.checkpoint import Position
from slicemill.model.learner import Learner
from slicemill.model.loop import epoch_size, open_epoch, prepared
from slicemill.model.ranks import summed
from slicemill.model.step import take_step

#: Of a time budget, kept for starting the ranks and publishing the model: seconds, and at most this share.
_RESERVE, _RESERVE_SHARE = 60.0, 1 / 3

#: Steps that are tried and undone before the first epoch, the first of which do not count.
_TRIED, _WARM = 6, 2

#: Cost of validating a slice, in steps' cost of training one: no backward pass, but full resolution.
_VALIDATION_COST = 0.5

#: Forward passes over the validation part after the last epoch, to choose the options of scoring.
_LAST_PASSES = 5


class Pace:
    """Gives each epoch its span of the schedule, the same on every rank."""

    def __init__(self, learner: Learner, position: Position) -> None:
        self._learner = learner
        self._launched = time.perf_counter() - position.seconds
        minutes = learner.plan.settings["budget_minutes"]
        self._budget = None if minutes is None else minutes * 60
        self._epoch_seconds, self._size = 0.0, self._size_after(position)
        self._reserve = _RESERVE
        if self._budget is not None:
            step = _tried_step_seconds(learner, self._size)
            validation = step * _VALIDATION_COST * _validation_steps(learner)
            self._epoch_seconds = step * learner.plan.steps_per_epoch + validation
            growth = (int(learner.plan.settings["image_size"]) / self._size) ** 2
            self._reserve += _LAST_PASSES * validation * growth

    @property
    def seconds(self) -> float:
        """Time that the run has taken so far, over all its launches."""
        return time.perf_counter() - self._launched

    def next_span(self, position: Position) -> Span | None:
        """Span of the next epoch; None if the run is to end."""
        settings = self._learner.plan.settings
        waited = position.epochs_done - position.best_epoch
        if settings["patience"] and position.epochs_done and waited >= settings["patience"]:
            return None
        if settings["epochs"] is not None and position.epochs_done >= settings["epochs"]:
            return None
        if self._budget is None:
            return epoch_span(position.epochs_done, settings["epochs"])
        left = self._budget - min(self._reserve, _RESERVE_SHARE * self._budget) - self.seconds
        size = self._size_after(position)
        growth = (size / self._size) ** 2
        left, epoch_seconds = self._agreed(left, self._epoch_seconds * growth)
        return budget_span(position.progress, left, epoch_seconds)

    def note_epoch(self, seconds: float, span: Span) -> None:
        """Take note of what an epoch took, validation and checkpoint included."""
        self._epoch_seconds, self._size = seconds, epoch_size(self._learner, span)

    def _size_after(self, position: Position) -> int:
        """Rows and columns of the network's input in the next epoch, but for one that reaches far."""
        return epoch_size(self._learner, Span(position.progress, position.progress))

    def _agreed(self, *values: float) -> list[float]:
        """Rank 0's values on every rank: clocks differ."""
        rank = self._learner.rank
        return summed(values if rank.first else [0.0] * len(values), rank)


def _validation_steps(learner: Learner) -> float:
    """Steps' worth of slices that the busiest rank validates."""
    plan = learner.plan
    return max(labelled_slices(share) for share in plan.validation) / plan.batch_per_rank


def _tried_step_seconds(learner: Learner, size: int) -> float:
    """What a step takes at this size, from a few that are undone."""
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
