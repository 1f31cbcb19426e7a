"""Grey values to network units: one clip and one z-score per scan and channel, from its histogram.

`volume` is the rule of Buda, Saha and Mazurowski, "Association of genomic subtypes of lower-grade gliomas
with shape features automatically extracted by a deep learning algorithm" (2019), as in their public
brain-segmentation-pytorch: clip to the 10th and 99th percentile of the volume, subtract the mean and divide
by the standard deviation of what was clipped. Here the percentiles are each channel's own, so that a scan's
sequences are scaled apart, and all four numbers come from the histogram that ingest counted.

`tissue` is the same of the brighter voxels alone, clipped at their 1st and 99th percentile, so that the air
around a head has no say. `none` divides by the largest grey value, for comparison.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt

from slicemill.types import Histograms

#: How a scan's grey values are scaled.
Rule = Literal["volume", "tissue", "none"]

#: Names of the rules in model cards; one is raised when a number that its rule gives changes.
RULE_NAMES: dict[Rule, str] = {
    "volume": "p10-p99-zscore-v1",
    "tissue": "tissue-p1-p99-zscore-v1",
    "none": "none-v1",
}

#: Shares of a channel's voxels below the lower and the upper clip, by the rule `volume`.
CLIP_SHARES = (0.10, 0.99)

#: Grey values up to this share of the channel's 99th percentile are air, by the rule `tissue`.
AIR_SHARE = 0.1

#: Shares of a channel's tissue below the lower and the upper clip, by the rule `tissue`.
TISSUE_CLIP_SHARES = (0.01, 0.99)

#: Smallest divisor, in grey values: a channel that hardly varies is not blown up to noise.
SCALE_FLOOR = 1.0

_GREY = np.arange(256, dtype=np.float64)


def rule_of(name: str) -> Rule:
    """The rule that a model card names. Raises ValueError for a name that this release does not have."""
    for rule, other in RULE_NAMES.items():
        if other == name:
            return rule
    raise ValueError(f"normalisation: expected one of {', '.join(RULE_NAMES.values())}, found {name}")


def from_histogram(histogram: Histograms, rule: Rule = "volume") -> npt.NDArray[np.float32]:
    """Clip and z-score of each channel of a scan.

    `histogram`: counts of the 256 grey values over all voxels of the scan, axes (C, 256).
    Returns float32 with axes (C, 4), columns low, high, mean, scale, in grey values: a voxel x becomes
    (clip(x, low, high) - mean) / scale. A channel without any voxel gets (0, 255, 0, 1), but for the rule
    `none`, which gives (0, 255, 0, 255) whatever the histogram. Raises ValueError for another shape or a
    negative count.
    """
    counts = np.asarray(histogram, dtype=np.float64)
    if counts.ndim != 2 or counts.shape[1] != _GREY.size or counts.min(initial=0) < 0:
        raise ValueError(f"histogram: expected counts with axes (C, 256), found shape {counts.shape}")
    return np.stack([_RULES[rule](channel) for channel in counts]).astype(np.float32)


def _volume(counts: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return _z_score(counts, CLIP_SHARES)


def _tissue(counts: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    if counts.sum() == 0:
        return _EMPTY
    bright = _percentile(counts, CLIP_SHARES[1])
    bright_counts = np.where(AIR_SHARE * bright < _GREY, counts, 0.0)
    # A channel of one dark value has no brighter voxels.
    return _z_score(bright_counts if bright_counts.any() else counts, TISSUE_CLIP_SHARES)


def _z_score(counts: npt.NDArray[np.float64], clip_shares: tuple[float, float]) -> npt.NDArray[np.float64]:
    voxels = counts.sum()
    if voxels == 0:
        return _EMPTY
    low, high = (_percentile(counts, share) for share in clip_shares)
    clipped = np.clip(_GREY, low, high)
    mean = (counts * clipped).sum() / voxels
    variance = (counts * (clipped - mean) ** 2).sum() / voxels
    return np.array([low, high, mean, max(np.sqrt(variance), SCALE_FLOOR)])


def _none(counts: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return np.array([0.0, 255.0, 0.0, 255.0])


def _percentile(counts: npt.NDArray[np.float64], share: float) -> float:
    """The least grey value with at least this share of the voxels at or below it."""
    below = np.cumsum(counts)
    return float(_GREY[np.searchsorted(below, share * below[-1])])


_EMPTY = np.array([0.0, 255.0, 0.0, 1.0])

_RULES = {"volume": _volume, "tissue": _tissue, "none": _none}
