"""U-Net on torchvision's ResNet encoders, with a slim decoder."""

from __future__ import annotations

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


class ResNetUNet(nn.Module):
    """U-Net (Ronneberger 2015) whose contracting half is a torchvision ResNet.

    Input float32 with axes (N, 3, H, W), H and W multiples of 32; output logits with axes (N, 1, H, W).
    The last doubling is a sub-pixel convolution (Shi 2016): full resolution costs one 1x1 convolution.
    """

    def __init__(
        self, encoder: torchvision.models.ResNet, skips: tuple[int, int, int, int, int], dropout: float
    ) -> None:
        super().__init__()
        # The classifier has no part in this, and a parameter without a gradient stops DDP.
        encoder.fc = nn.Identity()
        self.encoder = encoder
        deepest, *shallower = skips
        blocks, channels = [], deepest
        for skip, outputs in zip(shallower, DECODER_CHANNELS, strict=True):
            blocks.append(ConvBlock(channels + skip, outputs))
            channels = outputs
        self.decoder = nn.ModuleList(blocks)
        self.dropout = nn.Dropout2d(dropout)
        self.head = nn.Sequential(nn.Conv2d(channels, 4, 1), nn.PixelShuffle(2))

    def forward(self, images: Tensor) -> Tensor:
        """Logits with axes (N, 1, H, W)."""
        features = self._encode(images)
        decoded = features.pop()
        for block in self.decoder:
            skip = features.pop()
            decoded = block(
                torch.cat([functional.interpolate(decoded, scale_factor=2.0, mode="nearest"), skip], dim=1)
            )
        logits: Tensor = self.head(self.dropout(decoded))
        return logits

    def _encode(self, images: Tensor) -> list[Tensor]:
        net = self.encoder
        features = [net.relu(net.bn1(net.conv1(images)))]
        features.append(net.layer1(net.maxpool(features[0])))
        for layer in (net.layer2, net.layer3, net.layer4):
            features.append(layer(features[-1]))
        return features


def unet_resnet18(dropout: float = 0.0) -> ResNetUNet:
    """U-Net on ResNet-18, weights drawn by torch's global generator; `dropout` of whole channels."""
    return ResNetUNet(torchvision.models.resnet18(weights=None), (512, 256, 128, 64, 64), dropout)


def unet_resnet50(dropout: float = 0.0) -> ResNetUNet:
    """U-Net on ResNet-50, weights drawn by torch's global generator; `dropout` of whole channels."""
    return ResNetUNet(torchvision.models.resnet50(weights=None), (2048, 1024, 512, 256, 64), dropout)
