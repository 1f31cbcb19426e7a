"""Random changes of a training batch, on its device, a different draw for each slice."""

from __future__ import annotations

import torch
from kornia import augmentation
from kornia.constants import DataKey, Resample
from torch import Tensor, nn

#: Half-width of the uniform draws of gain and offset, in network units, per slice and channel.
INTENSITY = 0.15


class Augmentation(nn.Module):
    """Flips, rotation by up to 15 degrees, shift and scale by up to a tenth, and intensity.

    Image and mask move together. Draws come from torch's global generator.
    """

    def __init__(self) -> None:
        super().__init__()
        self._geometry = augmentation.AugmentationSequential(
            augmentation.RandomHorizontalFlip(p=0.5),
            augmentation.RandomVerticalFlip(p=0.5),
            augmentation.RandomAffine(
                degrees=15.0, translate=(0.1, 0.1), scale=(0.9, 1.1), padding_mode="border", p=0.9
            ),
            data_keys=["input", "mask"],
            # Kornia moves masks by nearest neighbours; ours are shares of tumour and move like the image.
            extra_args={DataKey.MASK: {"resample": Resample.BILINEAR}},
        )

    def forward(self, images: Tensor, masks: Tensor) -> tuple[Tensor, Tensor]:
        """Change float32 images with axes (N, C, H, W) and masks with axes (N, 1, H, W)."""
        images, masks = self._geometry(images, masks)
        gain, offset = (2 * torch.rand(2, *images.shape[:2], 1, 1, device=images.device) - 1) * INTENSITY
        images = images * (1 + gain) + offset
        return images.contiguous(memory_format=torch.channels_last), masks
