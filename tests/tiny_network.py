"""A network of a few hundred weights, so that whole training runs take a moment."""

from __future__ import annotations

from torch import nn


def tiny_network() -> nn.Module:
    """Two convolutions with batch normalisation; input (N, 3, H, W), logits (N, 1, H, W)."""
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 1, 3, padding=1),
    )
