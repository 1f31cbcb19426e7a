"""A network of a few hundred weights, so that whole training runs take a moment."""

from __future__ import annotations

from torch import Tensor, nn


def tiny_network() -> nn.Module:
    """Two convolutions with batch normalisation; input (N, 3, H, W), logits (N, 1, H, W)."""
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 1, 3, padding=1),
    )


def squared_loss(logits: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """A loss of a user's own."""
    return ((logits.sigmoid() - targets).square().mean(dim=(1, 2, 3)) * weights).mean()


def whole_slice() -> nn.Module:
    """A network that does not segment: one logit a slice."""
    return nn.Sequential(tiny_network(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
