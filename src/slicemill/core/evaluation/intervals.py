"""Confidence intervals by the percentile bootstrap.

Source: B. Efron, Bootstrap methods: another look at the jackknife, The Annals of Statistics 7 (1979). Give
one value a patient: scans and slices of one patient are not independent, and intervals over them are too
narrow.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Literal, NamedTuple

import numpy as np

from slicemill.types import Floats

#: Numbers drawn at a time, so that 10,000 patients need no more memory than 100.
_CHUNK = 4_000_000


class Interval(NamedTuple):
    """A statistic and the ends of its interval; one value alone has no interval, and ends of None."""

    value: float
    low: float | None
    high: float | None

    def ends(self, digits: int, unit: str = "") -> str:
        """The interval in words, such as "95% interval 0.512 to 0.734"."""
        if self.low is None or self.high is None:
            return "of one patient, so without an interval"
        return f"95% interval {self.low:.{digits}f} to {self.high:.{digits}f}{unit}"


def mean_interval(
    values: Sequence[float] | Floats, resamples: int = 2000, seed: int = 0, level: float = 0.95
) -> Interval:
    """Mean of `values`, and the ends of its interval at `level`.

    The same values in any order, resamples and seed give the same interval. Raises ValueError without values,
    for a value that is not finite, or for a level outside (0, 1).
    """
    return _interval(values, "mean", resamples, seed, level)


def median_interval(
    values: Sequence[float] | Floats, resamples: int = 2000, seed: int = 0, level: float = 0.95
) -> Interval:
    """Median of `values`, and the ends of its interval, as `mean_interval` does for the mean."""
    return _interval(values, "median", resamples, seed, level)


def grouped_interval(
    groups: Sequence[Floats],
    statistic: Callable[[Floats], float],
    resamples: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> Interval:
    """A statistic of all rows of `groups`, and the ends of its interval when whole groups are drawn.

    `statistic` takes the rows of the drawn groups, one after another; draws for which it gives nan are left
    out. Raises ValueError without groups, or if it gives nan for all rows.
    """
    estimate = statistic(np.concatenate(groups)) if groups else np.nan
    if not np.isfinite(estimate):
        raise ValueError(f"bootstrap: expected a finite statistic, found {estimate} of {len(groups)} groups")
    if len(groups) == 1:
        return Interval(float(estimate), None, None)
    rng = np.random.default_rng(seed)
    draws = rng.integers(0, len(groups), (resamples, len(groups)))
    replicates = np.array([statistic(np.concatenate([groups[group] for group in draw])) for draw in draws])
    low, high = np.nanquantile(replicates, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(estimate), float(low), float(high))


def _interval(
    values: Sequence[float] | Floats,
    statistic: Literal["mean", "median"],
    resamples: int,
    seed: int,
    level: float,
) -> Interval:
    sample = np.sort(np.asarray(values, np.float64), axis=None)
    if sample.size == 0 or not np.isfinite(sample).all():
        unusable = np.count_nonzero(~np.isfinite(sample))
        raise ValueError(
            f"bootstrap: expected finite values, found {sample.size}, {unusable} of them not finite"
        )
    if resamples < 1 or not 0 < level < 1:
        raise ValueError(
            f"bootstrap: expected resamples >= 1 and a level in (0, 1), found {resamples} and {level}"
        )
    reduce = np.mean if statistic == "mean" else np.median
    if sample.size == 1:
        return Interval(float(sample[0]), None, None)
    replicates = np.concatenate([reduce(part, axis=1) for part in _resamples(sample, resamples, seed)])
    low, high = np.quantile(replicates, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(reduce(sample)), float(low), float(high))


def _resamples(sample: Floats, resamples: int, seed: int) -> Iterator[Floats]:
    """Resamples with replacement, axes (resamples, values), in parts."""
    rng = np.random.default_rng(seed)
    rows = max(1, _CHUNK // sample.size)
    for start in range(0, resamples, rows):
        count = min(rows, resamples - start)
        yield sample[rng.integers(0, sample.size, (count, sample.size))]
