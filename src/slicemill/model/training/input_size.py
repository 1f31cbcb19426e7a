"""Rows and columns of the network's input over a run: as asked, by the device, or what a budget affords.

A run begins on small pictures and ends on large ones (docs/training.md). Larger ones are better as long as
enough epochs are left to learn from them.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping
from typing import Any

from slicemill.core.training.schedule import SMALL_SHARE
from slicemill.model.training.checkpoint import Position
from slicemill.model.training.learner import Learner
from slicemill.model.training.ranks import from_first
from slicemill.model.training.step_cost import epoch_seconds, growth, tried_step_seconds

#: Largest where none is asked for, by the kind of device.
IMAGE_SIZES = {"cpu": 192, "cuda": 256}

#: What a budget chooses among, and what it tries first.
_CHOICES, _TRIED = (64, 128, 192, 256), 128

#: Epochs of its own size that a choice must leave room for.
_LEAST_EPOCHS = 4

#: First sizes below this show a tumour of ordinary size in a few pixels.
_LEAST_FIRST = 64


def input_sizes(settings: Mapping[str, Any], final: int) -> tuple[int, int]:
    """Pixels a side at first and in the end; `final` where no size was asked for."""
    asked = settings["image_size"]
    return settings["first_size"] or asked or max(_LEAST_FIRST, final // 2), asked or final


def with_sizes(learner: Learner, position: Position) -> tuple[Learner, Position]:
    """Both with the sizes of their run settled, the same on every rank and after --resume.

    What trying them took counts as the run's own time.
    """
    started = time.perf_counter()
    sizes = position.sizes or _chosen(learner)
    seconds = position.seconds + time.perf_counter() - started
    settings = {**learner.plan.settings, "first_size": sizes[0], "image_size": sizes[1]}
    plan = dataclasses.replace(learner.plan, settings=settings)
    settled = dataclasses.replace(position, sizes=sizes, seconds=seconds)
    return dataclasses.replace(learner, plan=plan), settled


def _chosen(learner: Learner) -> tuple[int, int]:
    settings, largest = learner.plan.settings, IMAGE_SIZES[learner.rank.device.type]
    if settings["image_size"] is None and settings["budget_minutes"] is not None:
        return input_sizes(settings, _affordable(learner, largest))
    return input_sizes(settings, largest)


def _affordable(learner: Learner, largest: int) -> int:
    """The largest size of which the budget's last part holds some epochs."""
    least = max(_CHOICES[0], learner.plan.settings["first_size"] or 0)
    seconds = learner.plan.settings["budget_minutes"] * 60 * (1 - SMALL_SHARE)
    (step,) = from_first([tried_step_seconds(learner, _TRIED)], learner.rank)
    epoch = epoch_seconds(learner, step)
    fitting = [size for size in _CHOICES if _LEAST_EPOCHS * epoch * growth(size, _TRIED) <= seconds]
    return max([least, *(size for size in fitting if size <= largest)])
