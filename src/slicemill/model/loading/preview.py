"""What the network sees of a slice, as arrays to look at."""

from __future__ import annotations

import numpy as np
import torch

from slicemill.core.scans.normalise import from_histogram
from slicemill.core.scans.scan import Scan
from slicemill.model.input import to_network_input, to_network_mask
from slicemill.model.loading.augment import Augmentation
from slicemill.types import Floats


def augmented(scan: Scan, slice_index: int, size: int, draws: int, seed: int = 0) -> tuple[Floats, Floats]:
    """A slice as it reaches the network, and `draws` of its augmentations.

    Returns images with axes (1 + draws, C, size, size), in network units, the unchanged slice first, and
    their masks with axes (1 + draws, size, size): shares of tumour, 0 where the slice has no mask.
    """
    sample = next(sample for sample in scan.slices if sample.slice_index == slice_index)
    normalisation = from_histogram(np.sum([sample.histogram for sample in scan.slices], axis=0))
    mask = np.zeros(sample.image.shape[:2], np.uint8) if sample.mask is None else sample.mask
    image = to_network_input(torch.tensor(sample.image[None]), torch.tensor(normalisation[None]), size)
    share = to_network_mask(torch.tensor(mask[None]), size)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        images, shares = Augmentation()(image.repeat(draws, 1, 1, 1), share.repeat(draws, 1, 1, 1))
    stacked = torch.cat([image, images]), torch.cat([share, shares])[:, 0]
    return stacked[0].double().numpy(), stacked[1].double().numpy()
