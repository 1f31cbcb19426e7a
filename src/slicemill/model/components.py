"""What a predicted mask is made of, in three dimensions."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from slicemill.types import ScanMasks

#: Voxels that share a face, an edge or a corner belong together.
_TOUCHING = np.ones((3, 3, 3), dtype=bool)


def largest_component(masks: ScanMasks) -> ScanMasks:
    """The largest connected component of a scan's 0/1 mask, axes (S, H, W); of equals the first.

    Slices that follow each other in the stack touch, whatever their numbers.
    """
    labels, count = ndimage.label(masks, structure=_TOUCHING)
    if count < 2:
        return masks
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    kept: ScanMasks = (labels == sizes.argmax()).astype(np.uint8)
    return kept
