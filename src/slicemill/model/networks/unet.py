"""U-Net on encoders made for classification, with a slim decoder."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import timm
import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional

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


class ResNetUNet(EncoderUNet):
    """U-Net on a torchvision ResNet."""

    encoder: torchvision.models.ResNet

    def __init__(self, encoder: torchvision.models.ResNet, channels: Sequence[int], dropout: float) -> None:
        # The classifier has no part in this, and a parameter without a gradient stops DDP.
        encoder.fc = nn.Identity()
        super().__init__(encoder, channels, dropout)

    def encode(self, images: Tensor) -> list[Tensor]:
        """The stem's and the four stages' feature maps."""
        net = self.encoder
        features = [net.relu(net.bn1(net.conv1(images)))]
        features.append(net.layer1(net.maxpool(features[0])))
        for layer in (net.layer2, net.layer3, net.layer4):
            features.append(layer(features[-1]))
        return features


class TimmUNet(EncoderUNet):
    """U-Net on an encoder of timm with feature maps at strides 2 to 32."""

    encoder: Any

    def __init__(self, name: str, dropout: float) -> None:
        """`name`: timm's own."""
        encoder: Any = timm.create_model(name, pretrained=False, features_only=True)
        super().__init__(encoder, encoder.feature_info.channels(), dropout)

    def encode(self, images: Tensor) -> list[Tensor]:
        """The encoder's feature maps."""
        features: list[Tensor] = self.encoder(images)
        return features


def unet_resnet18(dropout: float = 0.0) -> ResNetUNet:
    """U-Net on ResNet-18, weights drawn by torch's global generator; `dropout` of whole channels."""
    return ResNetUNet(torchvision.models.resnet18(weights=None), (64, 64, 128, 256, 512), dropout)


def unet_resnet50(dropout: float = 0.0) -> ResNetUNet:
    """U-Net on ResNet-50, weights drawn by torch's global generator; `dropout` of whole channels."""
    return ResNetUNet(torchvision.models.resnet50(weights=None), (64, 256, 512, 1024, 2048), dropout)


def unet_lite0(dropout: float = 0.0) -> TimmUNet:
    """U-Net on EfficientNet-Lite0 (Liu 2020), padded as in TensorFlow: its weights come from there."""
    return TimmUNet("tf_efficientnet_lite0", dropout)
