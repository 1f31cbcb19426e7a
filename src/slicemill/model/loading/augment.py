"""Random changes of a training batch, on its device, a different draw for each slice.

Flip, rotation, scale, shift and elastic bending are one sampling grid, so that image and mask are
interpolated once: kornia's affine and elastic transforms, one after the other, take twice as long.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from slicemill.core.scans.scan import FLAIR

#: Half-width of the uniform draws, at strength 1: of the angle in degrees, of scale and shift as shares of
#: the image, of gain and offset in network units, and of the exponent's logarithm.
ROTATION, SCALE, SHIFT, INTENSITY, GAMMA = 15.0, 0.1, 0.1, 0.3, 0.6

#: Standard deviation of the elastic displacement at a knot, as a share of the image, and knots a side.
ELASTIC, KNOTS = 0.01, 6

#: Largest standard deviation of the noise, in network units.
NOISE = 0.1

#: Chance, at strength 1, that FLAIR stands in for both other sequences of a slice, and for each alone.
BOTH_ABSENT, ONE_ABSENT = 0.1, 0.05


class Augmentation(nn.Module):
    """Absent sequences, geometry for image and mask together, then intensity for the image.

    `strength` scales all draws but the flips, 0 leaves only those. Draws come from torch's global generator.
    """

    def __init__(self, strength: float = 1.0) -> None:
        super().__init__()
        self._strength = strength

    def forward(self, images: Tensor, masks: Tensor) -> tuple[Tensor, Tensor]:
        """Change float32 images with axes (N, C, H, W) and masks with axes (N, 1, H, W)."""
        images, masks = self.geometry(self.absence(images), masks)
        return self.intensity(images).contiguous(memory_format=torch.channels_last), masks

    def absence(self, images: Tensor) -> Tensor:
        """Put FLAIR in the place of other channels now and then, as in scans that lack a sequence.

        Each channel is normalised by its own histogram, so a copy of network input is what a copied sequence
        becomes. Few training scans show it, and a network that has seen none fails on the first.
        """
        count, channels = images.shape[:2]
        both_absent = torch.rand(count, 1, 1, 1, device=images.device) < BOTH_ABSENT * self._strength
        one_absent = torch.rand(count, channels, 1, 1, device=images.device) < ONE_ABSENT * self._strength
        return torch.where(both_absent | one_absent, images[:, FLAIR, None], images)

    def geometry(self, images: Tensor, masks: Tensor) -> tuple[Tensor, Tensor]:
        """Move each slice and its mask alike; what comes in from outside repeats the border."""
        count, _, height, width = images.shape
        grid = functional.affine_grid(self._affine(images), [count, 1, height, width], align_corners=False)
        knots = torch.randn(count, 2, KNOTS, KNOTS, device=images.device) * (2 * ELASTIC * self._strength)
        bend = functional.interpolate(knots, (height, width), mode="bicubic", align_corners=True)
        moved = functional.grid_sample(
            torch.cat([images, masks], dim=1).contiguous(),
            grid + bend.permute(0, 2, 3, 1),
            padding_mode="border",
            align_corners=False,
        )
        return moved[:, :-1], moved[:, -1:]

    def intensity(self, images: Tensor) -> Tensor:
        """Change each channel's brightness, contrast and gamma, and add noise."""
        low, high = images.amin(dim=(2, 3), keepdim=True), images.amax(dim=(2, 3), keepdim=True)
        extent = (high - low).clamp_min(1e-6)
        gamma = torch.exp(self._draw(images, GAMMA))
        images = ((images - low) / extent).clamp(0, 1).pow(gamma) * extent + low
        images = images * (1 + self._draw(images, INTENSITY)) + self._draw(images, INTENSITY)
        deviation = torch.rand(len(images), 1, 1, 1, device=images.device) * (NOISE * self._strength)
        return images + torch.randn_like(images) * deviation

    def _affine(self, images: Tensor) -> Tensor:
        count, device = len(images), images.device
        angle, scale, *shift = (2 * torch.rand(4, count, device=device) - 1) * self._strength
        angle = angle * (ROTATION * math.pi / 180)
        flip = torch.randint(2, (count, 1, 2), device=device) * 2.0 - 1
        rows = [torch.cos(angle), -torch.sin(angle), torch.sin(angle), torch.cos(angle)]
        turn = torch.stack(rows, dim=1).reshape(count, 2, 2) * (1 + SCALE * scale)[:, None, None] * flip
        return torch.cat([turn, torch.stack(shift, dim=1)[:, :, None] * (2 * SHIFT)], dim=2)

    def _draw(self, images: Tensor, half_width: float) -> Tensor:
        draws = torch.rand(*images.shape[:2], 1, 1, device=images.device)
        return (2 * draws - 1) * (half_width * self._strength)
