"""Slice classifiers: tumour on the slice, or not."""

from __future__ import annotations

from torch import Tensor, nn

from slicemill.model.networks.lite0 import HEAD_CHANNELS, Lite0Features

#: Widths of the head's two hidden layers.
_HIDDEN = (256, 64)


class Classifier(nn.Module):
    """An encoder with the head Linear, ReLU, dropout, Linear, dropout, Linear.

    Input float32 with axes (N, 3, H, W); output logits with axes (N, 1).
    """

    def __init__(self, encoder: nn.Module, features: int, dropout: float) -> None:
        """`encoder` gives `features` numbers a slice."""
        super().__init__()
        wide, narrow = _HIDDEN
        self.head = nn.Sequential(
            nn.Linear(features, wide),
            nn.ReLU(inplace=True),
            nn.Dropout(dropout),
            nn.Linear(wide, narrow),
            nn.Dropout(dropout),
            nn.Linear(narrow, 1),
        )
        self.encoder = encoder

    def forward(self, images: Tensor) -> Tensor:
        """Logits with axes (N, 1)."""
        logits: Tensor = self.head(self.encoder(images))
        return logits


def lite0(dropout: float = 0.5) -> Classifier:
    """Classifier on EfficientNet-Lite0, weights drawn by torch's global generator."""
    return Classifier(Lite0Features(), HEAD_CHANNELS, dropout)
