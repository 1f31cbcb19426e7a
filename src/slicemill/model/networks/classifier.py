"""Slice classifiers on torchvision's ResNets: tumour on the slice, or not."""

from __future__ import annotations

import torchvision
from torch import Tensor, nn

#: Widths of the head's two hidden layers.
_HIDDEN = (256, 64)


class ResNetClassifier(nn.Module):
    """A ResNet with the head Linear, ReLU, dropout, Linear, dropout, Linear.

    Input float32 with axes (N, 3, H, W); output logits with axes (N, 1).
    """

    def __init__(self, encoder: torchvision.models.ResNet, dropout: float) -> None:
        super().__init__()
        wide, narrow = _HIDDEN
        self.head = nn.Sequential(
            nn.Linear(encoder.fc.in_features, wide),
            nn.ReLU(inplace=True),
            nn.Dropout(dropout),
            nn.Linear(wide, narrow),
            nn.Dropout(dropout),
            nn.Linear(narrow, 1),
        )
        encoder.fc = nn.Identity()
        self.encoder = encoder

    def forward(self, images: Tensor) -> Tensor:
        """Logits with axes (N, 1)."""
        logits: Tensor = self.head(self.encoder(images))
        return logits


def resnet18(dropout: float = 0.5) -> ResNetClassifier:
    """Classifier on ResNet-18, weights drawn by torch's global generator."""
    return ResNetClassifier(torchvision.models.resnet18(weights=None), dropout)


def resnet50(dropout: float = 0.5) -> ResNetClassifier:
    """Classifier on ResNet-50, weights drawn by torch's global generator."""
    return ResNetClassifier(torchvision.models.resnet50(weights=None), dropout)
