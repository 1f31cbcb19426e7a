"""When a trial is given up: the median rule, as numbers that are known before the trial begins.

Source: D. Golovin et al., Google Vizier, KDD (2017); as Optuna's MedianPruner has it, of the trials that were
finished when this one began.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

#: Finished trials without which none is given up.
STARTUP = 5


def floors(finished: Sequence[Sequence[float]], epochs: int, after: int) -> tuple[float | None, ...]:
    """Score that the best of epochs 1 to K must reach, for K from 1 to `epochs`; None lets every trial go on.

    `finished`: scores by epoch of each finished trial. The first `after` epochs and the last give no floor.
    """
    if len(finished) < STARTUP:
        return ()
    found: list[float | None] = []
    for epoch in range(1, epochs):
        there = [scores[epoch - 1] for scores in finished if len(scores) >= epoch]
        found.append(float(np.median(there)) if there and epoch >= after else None)
    return tuple(found)
