"""When a trial is given up: the median rule, as numbers that are known before the trial begins.

Source: D. Golovin et al., Google Vizier, KDD (2017); as Optuna's MedianPruner has it, of the trials that were
finished when this one began.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from slicemill.core.training.records import EpochLine
from slicemill.core.training.selection import leading_epoch

#: Finished trials without which none is given up.
STARTUP = 5

#: Score that the leading one of epochs 1 to K must reach, for K from 1 on; None lets every trial go on.
Floors = Sequence[float | None]


def floors(finished: Sequence[Sequence[float]], epochs: int, after: int) -> tuple[float | None, ...]:
    """Floors of a trial of so many epochs.

    `finished`: scores by epoch of each finished trial. The first `after` epochs and the last give no floor.
    """
    if len(finished) < STARTUP:
        return ()
    by_epoch: list[float | None] = []
    for epoch in range(1, epochs):
        reached = [scores[epoch - 1] for scores in finished if len(scores) >= epoch]
        by_epoch.append(float(np.median(reached)) if reached and epoch >= after else None)
    return tuple(by_epoch)


def gives_up(history: Sequence[EpochLine], by_epoch: Floors) -> bool:
    """Whether a trial ends after these epochs: on its ranks, and in the study that enters it."""
    count = len(history)
    floor = by_epoch[count - 1] if 0 < count <= len(by_epoch) else None
    return floor is not None and history[leading_epoch(history) - 1].score < floor
