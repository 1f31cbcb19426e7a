"""What an epoch is worth, and which epoch of a run is published: for ranks, studies and reports alike.

The last epoch is published, unless an earlier one was better by more than chance. Where the rate falls to the
end of a schedule, the weights of the end are the better ones as a rule, and a few validation scans say less
than that: the best of many noisy numbers is often the luckiest. Differences are paired by scan, and chance is
two standard errors of their mean.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

from slicemill.core.training.records import EpochLine, SegmentationMetrics

#: Standard errors by which an earlier epoch must be better.
_BEYOND_CHANCE = 2.0


def worth(epoch: EpochLine) -> tuple[int, float]:
    """What an epoch is worth: of two, the greater is better.

    An epoch of larger pictures is worth more than any of smaller ones: with the network's full input it may
    be worse at first, and is soon better.
    """
    return epoch.image_size, epoch.score


def leading_epoch(history: Sequence[EpochLine]) -> int:
    """Number, from 1, of the epoch that is worth most, of equals the first; 0 without any."""
    if not history:
        return 0
    return 1 + max(range(len(history)), key=lambda at: (*worth(history[at]), -at))


def published_epoch(history: Sequence[EpochLine]) -> int:
    """Number, from 1, of the epoch that is published; 0 without any.

    That is the last one that its leader, of the epochs up to then, is not better than by more than chance.
    Where a line has no Dice by scan, the leader itself.
    """
    for count in range(len(history), 0, -1):
        leader = leading_epoch(history[:count])
        if leader == count or not _better(history[leader - 1], history[count - 1]):
            return count
    return 0


def run_score(history: Sequence[EpochLine]) -> float | None:
    """What a run is worth: the score of the epoch that it publishes; None without any."""
    return history[published_epoch(history) - 1].score if history else None


def _better(leader: EpochLine, other: EpochLine) -> bool:
    """Whether one epoch is better than another by more than chance."""
    if leader.image_size > other.image_size:
        return True
    first, second = _dice_by_scan(leader), _dice_by_scan(other)
    gains = [first[scan] - second[scan] for scan in first if scan in second]
    if not gains:
        return True
    if len(gains) == 1:
        return False
    error = statistics.stdev(gains) / math.sqrt(len(gains))
    return statistics.fmean(gains) > _BEYOND_CHANCE * error


def _dice_by_scan(epoch: EpochLine) -> dict[str, float]:
    metrics = epoch.validation
    return dict(metrics.dice_by_scan) if isinstance(metrics, SegmentationMetrics) else {}
