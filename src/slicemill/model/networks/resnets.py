"""Networks on torchvision's ResNets, apart: torchvision takes seconds to import."""

from __future__ import annotations

from collections.abc import Sequence

import torchvision
from torch import Tensor, nn

from slicemill.model.networks.classifier import Classifier
from slicemill.model.networks.unet import EncoderUNet


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


def unet_resnet18(dropout: float = 0.0) -> ResNetUNet:
    """U-Net on ResNet-18, weights drawn by torch's global generator; `dropout` of whole channels."""
    return ResNetUNet(torchvision.models.resnet18(weights=None), (64, 64, 128, 256, 512), dropout)


def unet_resnet50(dropout: float = 0.0) -> ResNetUNet:
    """U-Net on ResNet-50, weights drawn by torch's global generator; `dropout` of whole channels."""
    return ResNetUNet(torchvision.models.resnet50(weights=None), (64, 256, 512, 1024, 2048), dropout)


def resnet18(dropout: float = 0.5) -> Classifier:
    """Classifier on ResNet-18, weights drawn by torch's global generator."""
    return _on_resnet(torchvision.models.resnet18(weights=None), dropout)


def resnet50(dropout: float = 0.5) -> Classifier:
    """Classifier on ResNet-50, weights drawn by torch's global generator."""
    return _on_resnet(torchvision.models.resnet50(weights=None), dropout)


def _on_resnet(encoder: torchvision.models.ResNet, dropout: float) -> Classifier:
    features = encoder.fc.in_features
    encoder.fc = nn.Identity()
    return Classifier(encoder, features, dropout)
