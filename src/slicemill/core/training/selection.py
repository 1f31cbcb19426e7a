"""Which epoch of a run is published: the last, unless an earlier one was better by more than chance.

Where the rate falls to the end of a schedule, the weights of the end are the better ones as a rule, and a few
validation scans say less than that: the best of many noisy numbers is often the luckiest. Differences are
paired by scan, and chance is two standard errors of their mean.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

#: A line of metrics.jsonl.
Epoch = Mapping[str, Any]

#: Standard errors by which an earlier epoch must be better.
_BEYOND_CHANCE = 2.0

#: What epochs are compared by, the first that a line has; without a validation part the training loss.
_SCORES = ("val_dice", "val_auroc", "val_accuracy")


def score(epoch: Epoch) -> float:
    """The number by which an epoch is better than others: the higher the better."""
    found = (epoch.get(name) for name in _SCORES)
    return next((float(value) for value in found if value is not None), -float(epoch["train_loss"]))


def leading_epoch(history: Sequence[Epoch]) -> int:
    """Number, from 1, of the epoch with the best score among those of the largest pictures; 0 without any."""
    if not history:
        return 0
    # With the network's full input it may be worse at first, and is soon better.
    return 1 + max(range(len(history)), key=lambda at: (_size(history[at]), score(history[at]), -at))


def published_epoch(history: Sequence[Epoch]) -> int:
    """Number, from 1, of the epoch that is published; 0 without any.

    That is the last one that its leader, of the epochs up to then, is not better than by more than chance.
    Where a line has no Dice by scan, the leader itself.
    """
    for count in range(len(history), 0, -1):
        leader = leading_epoch(history[:count])
        if leader == count or not _better(history[leader - 1], history[count - 1]):
            return count
    return 0


def _better(leader: Epoch, other: Epoch) -> bool:
    """Whether one epoch is better than another by more than chance."""
    first, second = leader.get("val_dice_by_scan"), other.get("val_dice_by_scan")
    if _size(leader) > _size(other) or not first or not second:
        return True
    gains = [first[scan] - second[scan] for scan in first]
    if len(gains) == 1:
        return False
    error = statistics.stdev(gains) / math.sqrt(len(gains))
    return bool(statistics.fmean(gains) > _BEYOND_CHANCE * error)


def _size(epoch: Epoch) -> int:
    # Runs of before there were two sizes do not tell it.
    return int(epoch.get("image_size", 0))
