"""How many epochs a run makes, and how far each takes the schedule: by their number, or by the clock."""

from __future__ import annotations

import time

from slicemill.core.training.schedule import Span, budget_span, epoch_span
from slicemill.model.training.checkpoint import Position
from slicemill.model.training.learner import Learner
from slicemill.model.training.loop import epoch_size
from slicemill.model.training.ranks import from_first
from slicemill.model.training.step_cost import epoch_seconds, growth, tried_step_seconds, validation_seconds

#: Of a time budget, kept for starting the ranks and publishing the model: seconds, and at most this share.
_RESERVE, _RESERVE_SHARE = 60.0, 1 / 3

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
            step = tried_step_seconds(learner, self._size)
            self._epoch_seconds = epoch_seconds(learner, step)
            grown = step * growth(int(learner.plan.settings["image_size"]), self._size)
            self._reserve += _LAST_PASSES * validation_seconds(learner, grown)

    @property
    def seconds(self) -> float:
        """Time that the run has taken so far, over all its launches."""
        return time.perf_counter() - self._launched

    def next_span(self, position: Position) -> Span | None:
        """Span of the next epoch; None if the run is to end."""
        settings = self._learner.plan.settings
        waited = position.epochs_done - position.leading_epoch
        if settings["patience"] and position.epochs_done and waited >= settings["patience"]:
            return None
        if settings["epochs"] is not None and position.epochs_done >= settings["epochs"]:
            return None
        if self._budget is None:
            return epoch_span(position.epochs_done, settings["epochs"])
        left = self._budget - min(self._reserve, _RESERVE_SHARE * self._budget) - self.seconds
        next_epoch = self._epoch_seconds * growth(self._size_after(position), self._size)
        left, next_epoch = from_first([left, next_epoch], self._learner.rank)
        return budget_span(position.progress, left, next_epoch)

    def note_epoch(self, seconds: float, span: Span) -> None:
        """Take note of what an epoch took, validation and checkpoint included."""
        self._epoch_seconds, self._size = seconds, epoch_size(self._learner, span)

    def _size_after(self, position: Position) -> int:
        """Rows and columns of the network's input in the next epoch, but for one that reaches far."""
        return epoch_size(self._learner, Span(position.progress, position.progress))
