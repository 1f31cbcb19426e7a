"""The one way from stored uint8 slices to network input, and back to source resolution."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def to_network_input(images: Tensor, normalisation: Tensor, size: int) -> Tensor:
    """Resize, clip and z-score slices for the network.

    `images`: uint8, axes (N, H, W, C), any H and W. `normalisation`: float32, axes (N, C, 4), columns low,
    high, mean, scale of `slicemill.core.scans.normalise`, each slice its own scan's. Returns float32, axes
    (N, C, size, size) in channels_last order, on the device of `images`.

    A slice comes out bit-equal whatever else is in the batch: no step mixes slices, and planes are resized in
    one memory order by one kernel.
    """
    planes = images.permute(0, 3, 1, 2).to(torch.float32, memory_format=torch.contiguous_format)
    low, high, mean, scale = normalisation[..., None, None].unbind(dim=2)
    scaled = (torch.minimum(torch.maximum(resize(planes, size, size), low), high) - mean) / scale
    return scaled.contiguous(memory_format=torch.channels_last)


def to_network_mask(masks: Tensor, size: int) -> Tensor:
    """Share of tumour in each pixel of the network's output.

    `masks`: uint8 0/1, axes (N, H, W). Returns float32 with axes (N, 1, size, size), 0 to 1: a tumour smaller
    than a pixel of the network keeps its weight, where a thresholded mask would lose it.
    """
    return resize(masks[:, None].to(torch.float32), size, size)


def resize(planes: Tensor, height: int, width: int) -> Tensor:
    """Bilinear, low-pass filtered where it shrinks; float32 with axes (N, C, H, W) in and out."""
    if planes.shape[-2:] == (height, width):
        return planes
    # Also where it grows: torch's other kernel differs in its last bits with the number of slices and
    # threads.
    return functional.interpolate(
        planes, (height, width), mode="bilinear", align_corners=False, antialias=True
    )
