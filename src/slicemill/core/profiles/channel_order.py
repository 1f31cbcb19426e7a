"""Do the channels of scans come in the order of the training scans? Asked of many scans together.

One scan does not tell: sequences overlap in grey values, and a rule sharp enough to find half of the permuted
scans accuses one in ten that are right. Twenty scans of one source do tell.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import permutations
from typing import Any

import numpy as np

from slicemill.core.profiles.drift import COMPARED
from slicemill.core.scans.scan import SEQUENCES
from slicemill.types import Floats

#: Scans that are asked together at least, and by how much another order must fit better.
MIN_SCANS, MARGIN = 20, 0.5
#: A statistic's distance counts up to this many standard deviations, so that no outlier decides.
_FARTHEST = 3.0
#: Half of a usual range, 5th to 95th percentile, in standard deviations of a normal distribution.
_HALF_RANGE = 1.645


def channel_order_doubt(
    channels: Sequence[Sequence[Sequence[float]]], profile: Mapping[str, Any]
) -> str | None:
    """The doubt in words; None where the order fits best, or too little is known to say.

    `channels`: for each scan its `COMPARED` statistics, a value a channel each. `profile`: the model card's.
    The misfit of an order is the mean over scans of the squared distances of its statistics from the middles
    of the usual ranges, in standard deviations, each at most nine.
    """
    usual = profile.get("channels", ())
    if len(channels) < MIN_SCANS or len(usual) != len(SEQUENCES):
        return None
    # Axes (scans, channels, statistics).
    values = np.asarray(channels, np.float64).transpose(0, 2, 1)
    ranges = np.array([[channel[name] for name in COMPARED] for channel in usual], np.float64)
    middle = ranges.mean(axis=2)
    spread = np.maximum((ranges[..., 1] - ranges[..., 0]) / 2 / _HALF_RANGE, 1e-6)
    orders = list(permutations(range(len(SEQUENCES))))
    misfits = [_misfit(values[:, list(order)], middle, spread) for order in orders]
    best = int(np.argmin(misfits))
    if misfits[0] - misfits[best] <= MARGIN:
        return None
    likeness = ", ".join(SEQUENCES[orders[best].index(place)] for place in range(len(SEQUENCES)))
    return f"the channels of {len(values)} scans look like {likeness} instead of {', '.join(SEQUENCES)}"


def _misfit(values: Floats, middle: Floats, spread: Floats) -> float:
    distance = np.minimum(np.abs(values - middle) / spread, _FARTHEST)
    return float((distance**2).sum(axis=(1, 2)).mean())
