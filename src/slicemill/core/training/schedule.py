"""How the learning rate follows a run's progress, and how progress follows epochs or the clock.

Progress is 0 at the first step and 1 after the last. A run of a fixed number of epochs makes the same
progress in each; a run with a time budget makes as much as its pace says, anew before every epoch, so that
the schedule ends when the time does, on a slow machine as on a fast one.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

#: Share of a one-cycle run in which the rate rises (Smith 2018).
WARM_UP = 0.2

#: Rate at a one-cycle run's first and last step, as shares of its peak.
_FIRST, _LAST = 1 / 25, 1e-5

#: Share of a cosine run in which the rate rises, so that the first steps do not throw the weights about.
_COSINE_WARM_UP = 0.03

#: Share of a run that is trained on smaller pictures, where it begins with some.
SMALL_SHARE = 0.5

#: Share of an epoch that must still fit into the budget for another one to begin.
_LEAST_FIT = 0.95


def _between(start: float, end: float, share: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * share)) / 2


def _one_cycle(progress: float) -> float:
    if progress < WARM_UP:
        return _between(_FIRST, 1.0, progress / WARM_UP)
    return _between(1.0, _LAST, (progress - WARM_UP) / (1 - WARM_UP))


def _cosine(progress: float) -> float:
    if progress < _COSINE_WARM_UP:
        return _FIRST + (1 - _FIRST) * progress / _COSINE_WARM_UP
    return _between(1.0, _LAST, (progress - _COSINE_WARM_UP) / (1 - _COSINE_WARM_UP))


#: Factor on the peak learning rate at a progress of 0 to 1, by the schedule's name.
SCHEDULES: dict[str, Callable[[float], float]] = {
    "one-cycle": _one_cycle,
    "cosine": _cosine,
    "constant": lambda progress: 1.0,
}


@dataclass(frozen=True)
class Span:
    """Progress from the first step of an epoch to after its last."""

    start: float
    end: float

    def at(self, step: int, steps: int) -> float:
        """Progress at a step of the epoch, counted from 0."""
        return self.start + (self.end - self.start) * step / steps


@dataclass(frozen=True)
class InputSizes:
    """Rows and columns of the network's input, in pixels: early in a run, and then to its end."""

    first: int
    final: int

    def during(self, span: Span) -> int:
        """The size in an epoch."""
        return self.first if (span.start + span.end) / 2 < SMALL_SHARE else self.final


def epoch_span(epoch: int, epochs: int) -> Span | None:
    """Span of an epoch, counted from 0; None after the last."""
    return Span(epoch / epochs, (epoch + 1) / epochs) if epoch < epochs else None


def budget_span(progress: float, seconds_left: float, epoch_seconds: float) -> Span | None:
    """Span of the next epoch of a run with a time budget; None if it is to end here.

    `epoch_seconds` is what an epoch takes, validation included. The first epoch always runs: a run without
    one is of no use.
    """
    fit = seconds_left / epoch_seconds
    if progress >= 1 or (progress > 0 and fit < _LEAST_FIT):
        return None
    epochs_left = max(1, math.floor(fit + 1 - _LEAST_FIT))
    return Span(progress, 1.0 if epochs_left == 1 else progress + (1 - progress) / epochs_left)
