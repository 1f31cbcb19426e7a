"""What a scan's mask gains from its third dimension, where a network saw its slices one by one."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from slicemill.core.evaluation.options import PredictionOptions
from slicemill.types import ScanMasks

#: What stands for a probability of 1, in a byte.
LEVELS = 255

#: Voxels that share a face, an edge or a corner belong together.
_TOUCHING = np.ones((3, 3, 3), dtype=bool)


def clean_mask(
    probabilities: npt.NDArray[np.float32], threshold: float, options: PredictionOptions
) -> ScanMasks:
    """A scan's 0/1 mask from its float32 probabilities, both with axes (S, H, W), by these options."""
    if options.smooth_slices:
        masks = smooth_slices(np.rint(probabilities * LEVELS).astype(np.uint8), threshold)
    else:
        masks = (probabilities >= threshold).view(np.uint8)
    return largest_component(masks) if options.largest_component else masks


def smooth_slices(levels: npt.NDArray[np.uint8], threshold: float) -> ScanMasks:
    """Mask of a scan whose slices are averaged with their neighbours, by 1/4, 1/2 and 1/4.

    `levels`: uint8, axes (S, H, W), probabilities in steps of 1 / `LEVELS`. Slices that follow each other in
    the stack are neighbours, whatever their numbers; the first and the last stand in for the one they lack.
    """
    sums = 2 * levels.astype(np.uint16)
    sums[1:] += levels[:-1]
    sums[:-1] += levels[1:]
    sums[:1] += levels[:1]
    sums[-1:] += levels[-1:]
    return (sums >= 4 * LEVELS * threshold).view(np.uint8)


def largest_component(masks: ScanMasks) -> ScanMasks:
    """The largest connected component of a scan's 0/1 mask, axes (S, H, W); of equals the first.

    Slices that follow each other in the stack touch, whatever their numbers.
    """
    from scipy import ndimage  # half a second of imports, for those who keep the largest component

    labels, count = ndimage.label(masks, structure=_TOUCHING)
    if count < 2:
        return masks
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    largest: ScanMasks = (labels == sizes.argmax()).astype(np.uint8)
    return largest
