from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from slicemill.model.networks.registry import ARCHITECTURES
from slicemill.model.predicting.fusion import fuse


# MONAI and timm take many seconds to import, which every worker would pay while it collects tests.
def _monai_unet() -> nn.Module:
    from monai.networks.nets import UNet

    return UNet(2, 3, 1, channels=(8, 16, 32), strides=(2, 2), num_res_units=2, norm="batch")


def _monai_attention() -> nn.Module:
    from monai.networks.nets import AttentionUnet

    return AttentionUnet(2, 3, 1, channels=(8, 16, 32), strides=(2, 2))


def _timms_resnet() -> nn.Module:
    import timm

    return timm.create_model("resnet18", num_classes=1)


BUILDERS: dict[str, Callable[[], nn.Module]] = {
    **{name: entry.build for name, entry in ARCHITECTURES.items()},
    "a MONAI U-Net": _monai_unet,
    "a MONAI attention U-Net": _monai_attention,
    "timm's ResNet": _timms_resnet,
}


def _lived_in(network: nn.Module) -> nn.Module:
    """Batch norms as after some training: no two channels alike."""
    for module in network.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            for tensor, low, high in (
                (module.weight, 0.5, 1.5),
                (module.bias, -0.5, 0.5),
                (module.running_mean, -0.5, 0.5),
                (module.running_var, 0.5, 2.0),
            ):
                if tensor is not None:
                    nn.init.uniform_(tensor.data, low, high)
    return network.eval()


def _norms(network: nn.Module) -> int:
    return sum(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in network.modules())


@pytest.mark.parametrize("name", BUILDERS)
def test_every_network_gives_the_same_with_less_work(name: str) -> None:
    torch.manual_seed(0)
    network = _lived_in(BUILDERS[name]())
    images, before = torch.randn(2, 3, 64, 64), _norms(network)
    with torch.inference_mode():
        expected = network(images)
    folded = fuse(network, images[:1])
    with torch.inference_mode():
        found = network(images)
    assert _norms(network) == 0
    assert folded == before
    assert torch.allclose(found, expected, rtol=1e-3, atol=1e-4 * float(expected.abs().max()))


class Unsure(nn.Module):
    """A convolution and a batch norm, put together in some way."""

    def __init__(self, forward: Callable[[Unsure, Tensor], object], **options: bool) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)
        self.norm = nn.BatchNorm2d(3, **options)
        self.way = forward

    def forward(self, images: Tensor) -> object:
        return self.way(self, images)


def _plain(net: Unsure, images: Tensor) -> Tensor:
    return net.norm(net.conv(images))


def _read_twice(net: Unsure, images: Tensor) -> Tensor:
    features = net.conv(images)
    return net.norm(features) + features


def _called_twice(net: Unsure, images: Tensor) -> Tensor:
    return net.norm(net.conv(images)) + net.conv(images * 2)


def _weight_used_elsewhere(net: Unsure, images: Tensor) -> Tensor:
    return net.norm(net.conv(images)) * net.conv.weight.sum()


def _returned_too(net: Unsure, images: Tensor) -> tuple[Tensor, Tensor]:
    features = net.conv(images)
    return net.norm(features), features


def _something_between(net: Unsure, images: Tensor) -> Tensor:
    return net.norm(torch.relu(net.conv(images)))


def _in_place_between(net: Unsure, images: Tensor) -> Tensor:
    return net.norm(net.conv(images).mul_(2))


def test_a_plain_pair_is_folded() -> None:
    assert fuse(Unsure(_plain).eval(), torch.randn(1, 3, 8, 8)) == 1


@pytest.mark.parametrize(
    "way",
    [
        _read_twice,
        _called_twice,
        _weight_used_elsewhere,
        _returned_too,
        _something_between,
        _in_place_between,
    ],
)
def test_what_is_not_sure_is_left_alone(way: Callable[[Unsure, Tensor], object]) -> None:
    network = _lived_in(Unsure(way))
    same = copy.deepcopy(network.state_dict())
    assert fuse(network, torch.randn(1, 3, 8, 8)) == 0
    assert all(torch.equal(value, same[name]) for name, value in network.state_dict().items())


def test_the_activation_inside_a_norm_outlives_it() -> None:
    from timm.layers import BatchNormAct2d

    torch.manual_seed(0)
    network = Unsure(_plain)
    network.norm = BatchNormAct2d(3)
    _lived_in(network)
    images = torch.randn(2, 3, 8, 8)
    with torch.inference_mode():
        expected = network(images)

    assert fuse(network, images) == 1

    with torch.inference_mode():
        assert torch.allclose(network(images), expected, atol=1e-5)
    assert (expected == 0).any()


class _Doubling(nn.BatchNorm2d):
    """A batch norm that does more than its kind."""

    def forward(self, input: Tensor) -> Tensor:
        return 2 * super().forward(input)


class _DoublingWithActivation(_Doubling):
    act = nn.ReLU()


@pytest.mark.parametrize("kind", [_Doubling, _DoublingWithActivation])
def test_a_norm_that_does_something_else_is_left_alone(kind: type[nn.BatchNorm2d]) -> None:
    network = Unsure(_plain)
    network.norm = kind(3)

    assert fuse(_lived_in(network), torch.randn(1, 3, 8, 8)) == 0
    assert type(network.norm) is kind


def _norm_read_elsewhere(net: Unsure, images: Tensor) -> Tensor:
    return net.norm(net.conv(images)) * net.norm.running_var.sum()


def _bias_read_elsewhere(net: Unsure, images: Tensor) -> Tensor:
    bias = net.conv.bias
    return net.norm(net.conv(images)) + (0 if bias is None else bias.sum())


@pytest.mark.parametrize("way", [_norm_read_elsewhere, _bias_read_elsewhere])
def test_a_network_that_gives_something_else_afterwards_is_left_as_it_was(
    way: Callable[[Unsure, Tensor], object],
) -> None:
    torch.manual_seed(0)
    network = _lived_in(Unsure(way))
    images = torch.randn(1, 3, 8, 8)
    expected = network(images)

    assert fuse(network, images) == 0
    assert torch.equal(network(images), expected)


def test_norms_of_the_batch_itself_are_left_alone() -> None:
    assert fuse(Unsure(_plain, track_running_stats=False).eval(), torch.randn(2, 3, 8, 8)) == 0
    assert fuse(Unsure(_plain).train(), torch.randn(2, 3, 8, 8)) == 0
