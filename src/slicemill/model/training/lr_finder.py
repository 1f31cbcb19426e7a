"""The learning-rate range test (Smith 2017): rising rates, and what the loss did."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator

from slicemill.core.training.records import RateSearch
from slicemill.model.loading.stacked import StackedBatch
from slicemill.model.training.learner import Learner
from slicemill.model.training.loop import open_epoch, to_network_batch
from slicemill.model.training.ranks import all_reduce_sum
from slicemill.model.training.step import take_step

#: Rates that are tried, from the first to the last in equal factors.
STEPS, FIRST, LAST = 100, 1e-6, 1.0

#: Share of its past in the smoothed loss.
_SMOOTHING = 0.9

#: Multiple of its lowest value at which the loss counts as lost for good.
_DIVERGED = 4.0


def find_rate(learner: Learner) -> RateSearch:
    """Train with rising rates until the loss diverges; the network is of no use afterwards.

    `suggested` is a tenth of the rate at which the loss was lowest, which is fast.ai's rule.
    """
    rates: list[float] = []
    losses: list[float] = []
    smoothed = 0.0
    for step, batch in enumerate(itertools.islice(_endless(learner), STEPS)):
        rate = FIRST * (LAST / FIRST) ** (step / (STEPS - 1))
        for group in learner.optimiser.param_groups:
            group["lr"] = rate * group["peak"] / learner.plan.settings.learning_rate
        result = take_step(learner, to_network_batch(learner, batch, learner.execution.sizes.final))
        if not result.finite:
            break
        mean = all_reduce_sum([float(result.loss)], learner.rank)[0] / learner.rank.count
        if not math.isfinite(mean):
            break
        smoothed = _SMOOTHING * smoothed + (1 - _SMOOTHING) * mean
        rates.append(rate)
        losses.append(smoothed / (1 - _SMOOTHING ** (step + 1)))
        if losses[-1] > _DIVERGED * min(losses):
            break
    lowest = min(range(len(losses)), key=losses.__getitem__, default=None)
    suggested = None if lowest is None else rates[lowest] / 10
    return RateSearch(tuple(rates), tuple(losses), suggested)


def _endless(learner: Learner) -> Iterator[StackedBatch]:
    for epoch in itertools.count():
        yield from open_epoch(learner, epoch)
