"""Several networks that score as one."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class Committee(nn.Module):
    """Networks that all see the same input (N, 3, H, W), their logits side by side.

    Axes (N, M, H, W), of M classifiers (N, M). `model.predicting.predictor.at_source` takes the mean of
    their probabilities, at the source's resolution.
    """

    def __init__(self, members: Sequence[nn.Module]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)

    def forward(self, inputs: Tensor) -> Tensor:
        """Each member's logits."""
        return torch.cat([member(inputs) for member in self.members], dim=1)
