"""Statistics of pixels, taken from their 256-bin histograms.

Percentiles are the smallest grey value at which the cumulative share reaches the percentile (numpy's
`inverted_cdf`); std is the population's.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from slicemill.types import Floats, Histograms

_GREY = np.arange(256, dtype=np.float64)
_PERCENTILES = {"p01": 0.01, "p10": 0.10, "p50": 0.50, "p90": 0.90, "p99": 0.99}


@dataclass(frozen=True)
class Statistics:
    """`schemas.STATISTICS`, each float64 with the axes that its histograms had, in grey values."""

    min: Floats
    max: Floats
    mean: Floats
    std: Floats
    p01: Floats
    p10: Floats
    p50: Floats
    p90: Floats
    p99: Floats

    @property
    def by_name(self) -> dict[str, Floats]:
        """The statistics by the names of their columns."""
        return dict(vars(self))

    def at(self, *place: int) -> dict[str, float]:
        """The statistics of one histogram, by the names of their columns."""
        return {name: float(values[place]) for name, values in vars(self).items()}


def statistics(histogram: Histograms) -> Statistics:
    """Statistics of histograms, axes (..., 256), with axes (...). An empty histogram gives 0 everywhere."""
    counts = histogram.astype(np.float64)
    total = np.maximum(counts.sum(-1), 1.0)
    mean = counts @ _GREY / total
    variance = np.maximum(counts @ _GREY**2 / total - mean**2, 0.0)
    cumulative = np.cumsum(histogram, axis=-1)
    occupied = histogram > 0

    def percentile(share: float) -> Floats:
        rank = np.ceil(share * cumulative[..., -1:]).astype(np.int64)
        grey: Floats = np.argmax(cumulative >= np.maximum(rank, 1), axis=-1).astype(np.float64)
        return grey

    return Statistics(
        min=np.argmax(occupied, axis=-1).astype(np.float64),
        max=np.where(occupied.any(-1), 255.0 - np.argmax(occupied[..., ::-1], axis=-1), 0.0),
        mean=mean,
        std=np.sqrt(variance),
        **{name: percentile(share) for name, share in _PERCENTILES.items()},
    )
