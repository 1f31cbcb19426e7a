"""U-Net on encoders made for classification, with a slim decoder."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from slicemill.model.networks import lite0

#: Channels of the decoder's stages, deepest first. Slim: three quarters of the work stays in the encoder.
DECODER_CHANNELS = (128, 64, 32, 32)


class ConvBlock(nn.Sequential):
    """Two 3x3 convolutions, each with batch normalisation and ReLU."""

    def __init__(self, inputs: int, outputs: int) -> None:
        layers: list[nn.Module] = []
        for channels in (inputs, outputs):
            layers += [
                nn.Conv2d(channels, outputs, 3, padding=1, bias=False),
                nn.BatchNorm2d(outputs),
                nn.ReLU(inplace=True),
            ]
        super().__init__(*layers)


class EncoderUNet(nn.Module, ABC):
    """U-Net (Ronneberger 2015) whose contracting half is a network for classification.

    Input float32 with axes (N, 3, H, W), H and W multiples of 32; output logits with axes (N, 1, H, W).
    The last doubling is a sub-pixel convolution (Shi 2016): full resolution costs one 1x1 convolution.
    """

    def __init__(self, encoder: nn.Module, channels: Sequence[int], dropout: float) -> None:
        """`channels`: those of the encoder's five feature maps, at strides 2 to 32."""
        super().__init__()
        self.encoder = encoder
        inputs, *skips = reversed(channels)
        blocks = []
        for skip, outputs in zip(skips, DECODER_CHANNELS, strict=True):
            blocks.append(ConvBlock(inputs + skip, outputs))
            inputs = outputs
        self.decoder = nn.ModuleList(blocks)
        self.dropout = nn.Dropout2d(dropout)
        self.head = nn.Sequential(nn.Conv2d(inputs, 4, 1), nn.PixelShuffle(2))

    @abstractmethod
    def encode(self, images: Tensor) -> list[Tensor]:
        """The encoder's feature maps, at strides 2, 4, 8, 16 and 32."""

    def forward(self, images: Tensor) -> Tensor:
        """Logits with axes (N, 1, H, W)."""
        features = self.encode(images)
        decoded = features.pop()
        for block in self.decoder:
            skip = features.pop()
            decoded = block(
                torch.cat([functional.interpolate(decoded, scale_factor=2.0, mode="nearest"), skip], dim=1)
            )
        logits: Tensor = self.head(self.dropout(decoded))
        return logits


class Lite0UNet(EncoderUNet):
    """U-Net on EfficientNet-Lite0."""

    encoder: lite0.Lite0

    def __init__(self, dropout: float) -> None:
        super().__init__(lite0.Lite0(), lite0.FEATURE_CHANNELS, dropout)

    def encode(self, images: Tensor) -> list[Tensor]:
        """The encoder's feature maps."""
        features: list[Tensor] = self.encoder(images)
        return features


def unet_lite0(dropout: float = 0.0) -> Lite0UNet:
    """U-Net on EfficientNet-Lite0 (Liu 2020) with random weights; `dropout` of whole channels."""
    return Lite0UNet(dropout)
