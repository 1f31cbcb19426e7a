"""Grey values to network units: one clip and one z-score per scan and channel, from its histogram.

The rule is that of Buda, Saha and Mazurowski, "Association of genomic subtypes of lower-grade gliomas with
shape features automatically extracted by a deep learning algorithm" (2019), as in their public
brain-segmentation-pytorch: clip to the 10th and 99th percentile of the volume, subtract the mean and divide
by the standard deviation of what was clipped. Here the percentiles are each channel's own, so that a scan's
sequences are scaled apart, and all four numbers come from the histogram that ingest counted.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from slicemill.types import Histograms

#: Name of this rule in model cards; raised when a number that it gives changes.
NORMALISATION = "p10-p99-zscore-v1"

#: Shares of a channel's voxels below the lower and the upper clip.
CLIP_SHARES = (0.10, 0.99)

#: Smallest divisor, in grey values: a channel that hardly varies is not blown up to noise.
SCALE_FLOOR = 1.0

_GREY = np.arange(256, dtype=np.float64)


def from_histogram(histogram: Histograms) -> npt.NDArray[np.float32]:
    """Clip and z-score of each channel of a scan.

    `histogram`: counts of the 256 grey values over all voxels of the scan, axes (C, 256).
    Returns float32 with axes (C, 4), columns low, high, mean, scale, in grey values: a voxel x becomes
    (clip(x, low, high) - mean) / scale. A channel without any voxel gets (0, 255, 0, 1).
    Raises ValueError for another shape or a negative count.
    """
    counts = np.asarray(histogram, dtype=np.float64)
    if counts.ndim != 2 or counts.shape[1] != _GREY.size or counts.min(initial=0) < 0:
        raise ValueError(f"histogram: expected counts with axes (C, 256), found shape {counts.shape}")
    return np.stack([_channel(channel) for channel in counts]).astype(np.float32)


def _channel(counts: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    voxels = counts.sum()
    if voxels == 0:
        return np.array([0.0, 255.0, 0.0, 1.0])
    below = np.cumsum(counts)
    low, high = (_GREY[np.searchsorted(below, share * voxels)] for share in CLIP_SHARES)
    clipped = np.clip(_GREY, low, high)
    mean = (counts * clipped).sum() / voxels
    variance = (counts * (clipped - mean) ** 2).sum() / voxels
    return np.array([low, high, mean, max(np.sqrt(variance), SCALE_FLOOR)])
