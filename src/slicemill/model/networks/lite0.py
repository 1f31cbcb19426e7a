"""EfficientNet-Lite0, written out: the default network loads without timm and torchvision.

Both import torch's compiler on their way, which took longer than scoring a small scan. Names and order of the
tensors are those of timm 1.0's `tf_efficientnet_lite0`, and so are the outputs, bit by bit.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional

STEM_CHANNELS = 32

#: Channels of the feature maps at strides 2, 4, 8, 16 and 32.
FEATURE_CHANNELS = (16, 24, 40, 112, 320)

#: Features of a slice for a classifier.
HEAD_CHANNELS = 1280

#: TensorFlow's, from which the ImageNet weights come.
_EPSILON = 1e-3


@dataclass(frozen=True)
class _Stage:
    """Blocks of one width; the first has the stride."""

    blocks: int
    channels: int
    kernel: int
    stride: int
    expansion: int


_STAGES = (
    _Stage(1, 16, 3, 1, 1),
    _Stage(2, 24, 3, 2, 6),
    _Stage(2, 40, 5, 2, 6),
    _Stage(3, 80, 3, 2, 6),
    _Stage(3, 112, 5, 1, 6),
    _Stage(4, 192, 5, 2, 6),
    _Stage(1, 320, 3, 1, 6),
)

#: Stages whose last map is the last of its size.
_LAST_OF_SIZE = (0, 1, 2, 4, 6)


class _HalvingConv(nn.Conv2d):
    """Convolution of stride 2, padded as TensorFlow does: the odd row and column at the end."""

    def forward(self, images: Tensor) -> Tensor:
        """Half the rows and columns, both even, of `images`."""
        padding = self.kernel_size[0] - 2
        before = padding // 2
        images = functional.pad(images, (before, padding - before) * 2)
        return functional.conv2d(images, self.weight, self.bias, self.stride, groups=self.groups)


def _norm(channels: int) -> nn.BatchNorm2d:
    # No subclass: folding trusts the plain class alone.
    return nn.BatchNorm2d(channels, eps=_EPSILON)


def _depthwise(channels: int, kernel: int, stride: int) -> nn.Conv2d:
    if stride == 1:
        return nn.Conv2d(channels, channels, kernel, padding=kernel // 2, groups=channels, bias=False)
    return _HalvingConv(channels, channels, kernel, stride=stride, groups=channels, bias=False)


class _SeparableBlock(nn.Module):
    """Depthwise, then pointwise: the first stage's only block."""

    def __init__(self, inputs: int, outputs: int, kernel: int) -> None:
        super().__init__()
        self.conv_dw = _depthwise(inputs, kernel, 1)
        self.bn1 = _norm(inputs)
        self.conv_pw = nn.Conv2d(inputs, outputs, 1, bias=False)
        self.bn2 = _norm(outputs)
        self.act = nn.ReLU6(inplace=True)

    def forward(self, features: Tensor) -> Tensor:
        features = self.act(self.bn1(self.conv_dw(features)))
        narrow: Tensor = self.bn2(self.conv_pw(features))
        return narrow


class _InvertedResidual(nn.Module):
    """Widen, filter channel by channel, narrow (Sandler 2018)."""

    def __init__(self, inputs: int, outputs: int, stage: _Stage, stride: int) -> None:
        super().__init__()
        wide = inputs * stage.expansion
        self.conv_pw = nn.Conv2d(inputs, wide, 1, bias=False)
        self.bn1 = _norm(wide)
        self.conv_dw = _depthwise(wide, stage.kernel, stride)
        self.bn2 = _norm(wide)
        self.conv_pwl = nn.Conv2d(wide, outputs, 1, bias=False)
        self.bn3 = _norm(outputs)
        self.act = nn.ReLU6(inplace=True)
        self.residual = stride == 1 and inputs == outputs

    def forward(self, features: Tensor) -> Tensor:
        wide = self.act(self.bn1(self.conv_pw(features)))
        wide = self.act(self.bn2(self.conv_dw(wide)))
        narrow: Tensor = self.bn3(self.conv_pwl(wide))
        return features + narrow if self.residual else narrow


class Lite0(nn.Module):
    """The feature maps of EfficientNet-Lite0 (Liu 2020; Tan and Le 2019), weights drawn by torch's generator.

    Input float32 with axes (N, 3, H, W), H and W multiples of 32; output five maps, at strides 2 to 32.
    """

    def __init__(self) -> None:
        super().__init__()
        self.conv_stem: nn.Conv2d = _HalvingConv(3, STEM_CHANNELS, 3, stride=2, bias=False)
        self.bn1 = _norm(STEM_CHANNELS)
        self.act = nn.ReLU6(inplace=True)
        stages = []
        inputs = STEM_CHANNELS
        for stage in _STAGES:
            stages.append(_stage(inputs, stage))
            inputs = stage.channels
        self.blocks = nn.Sequential(*stages)
        _draw_weights(self)

    def forward(self, images: Tensor) -> list[Tensor]:
        """The five feature maps."""
        features = self.act(self.bn1(self.conv_stem(images)))
        maps = []
        for number, stage in enumerate(self.blocks):
            features = stage(features)
            if number in _LAST_OF_SIZE:
                maps.append(features)
        return maps


class Lite0Features(Lite0):
    """1,280 numbers a slice instead of the maps, for a classifier: output axes (N, 1280)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv_head = nn.Conv2d(FEATURE_CHANNELS[-1], HEAD_CHANNELS, 1, bias=False)
        self.bn2 = _norm(HEAD_CHANNELS)
        _draw_weights(self.conv_head)

    def forward(self, images: Tensor) -> Tensor:  # type: ignore[override]
        """What the last map holds, averaged over rows and columns."""
        features = self.act(self.bn2(self.conv_head(super().forward(images)[-1])))
        means: Tensor = features.mean((2, 3))
        return means


def _stage(inputs: int, stage: _Stage) -> nn.Sequential:
    if stage.expansion == 1:
        return nn.Sequential(_SeparableBlock(inputs, stage.channels, stage.kernel))
    blocks = [_InvertedResidual(inputs, stage.channels, stage, stage.stride)]
    for _ in range(1, stage.blocks):
        blocks.append(_InvertedResidual(stage.channels, stage.channels, stage, 1))
    return nn.Sequential(*blocks)


def _draw_weights(network: nn.Module) -> None:
    """Random convolutions as in TensorFlow's reference: normal, its variance by the fan-out."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            fan_out = module.kernel_size[0] * module.kernel_size[1] * module.out_channels // module.groups
            nn.init.normal_(module.weight, 0.0, math.sqrt(2.0 / fan_out))
