"""A network of a few hundred weights, so that whole training runs take a moment."""

from __future__ import annotations

import time

from torch import Tensor, nn


def tiny_network() -> nn.Module:
    """Two convolutions with batch normalisation; input (N, 3, H, W), logits (N, 1, H, W)."""
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 1, 3, padding=1),
    )


class _Pause(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        time.sleep(0.1)
        return images


def unhurried_network() -> nn.Module:
    """`tiny_network`, a tenth of a second for each batch: its runs do not end before they are killed."""
    return nn.Sequential(_Pause(), tiny_network())


def squared_loss(logits: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """A loss of a user's own."""
    return ((logits.sigmoid() - targets).square().mean(dim=(1, 2, 3)) * weights).mean()


def whole_slice() -> nn.Module:
    """A network that does not segment: one logit a slice."""
    return nn.Sequential(tiny_network(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
