"""EfficientNet-Lite0 against timm's, and what its import costs."""

from __future__ import annotations

import subprocess
import sys
from types import ModuleType

import pytest
import torch
from torch import nn

from slicemill.model.networks.lite0 import FEATURE_CHANNELS, Lite0, Lite0Features


@pytest.fixture(scope="module")
def timm() -> ModuleType:
    """Imported here: it takes seconds, which every worker would pay while it collects tests."""
    import timm

    return timm


@pytest.fixture(params=["maps", "features"])
def pair(timm: ModuleType, request: pytest.FixtureRequest) -> tuple[nn.Module, nn.Module]:
    """timm's network and slicemill's, with the same weights."""
    torch.manual_seed(0)
    if request.param == "maps":
        reference, own = timm.create_model("tf_efficientnet_lite0", features_only=True), Lite0()
    else:
        reference, own = timm.create_model("tf_efficientnet_lite0", num_classes=0), Lite0Features()
    own.load_state_dict(reference.state_dict())
    return reference, own


def _outputs(network: nn.Module, images: torch.Tensor) -> list[torch.Tensor]:
    outputs = network(images)
    return outputs if isinstance(outputs, list) else [outputs]


def test_tensors_come_in_the_same_order(pair: tuple[nn.Module, nn.Module]) -> None:
    # Files with other names are matched by order.
    reference, own = pair
    assert list(own.state_dict()) == list(reference.state_dict())


@pytest.mark.parametrize("train", [True, False])
def test_outputs_gradients_and_statistics_are_equal(pair: tuple[nn.Module, nn.Module], train: bool) -> None:
    images = torch.randn(2, 3, 96, 64)
    results = []
    for network in pair:
        network.train(train)
        outputs = _outputs(network, images)
        sum(output.square().mean() for output in outputs).backward()
        gradients = [parameter.grad for parameter in network.parameters() if parameter.grad is not None]
        results.append([*outputs, *gradients, *network.buffers()])

    assert len(results[0]) > 200
    assert all(torch.equal(first, second) for first, second in zip(*results, strict=True))


def test_random_weights_have_the_spread_of_the_reference(timm: ModuleType) -> None:
    torch.manual_seed(0)
    reference, own = timm.create_model("tf_efficientnet_lite0", features_only=True), Lite0()

    for name, tensor in own.state_dict().items():
        theirs = reference.state_dict()[name]
        if tensor.numel() > 5_000:
            assert float(tensor.std()) == pytest.approx(float(theirs.std()), rel=0.05), name


def test_maps_have_the_strides_that_a_decoder_expects() -> None:
    maps = Lite0()(torch.randn(2, 3, 64, 96))
    assert [tuple(features.shape[1:]) for features in maps] == [
        (channels, 64 // stride, 96 // stride)
        for channels, stride in zip(FEATURE_CHANNELS, (2, 4, 8, 16, 32), strict=True)
    ]


@pytest.mark.parametrize(("name", "task"), [("unet-lite0", "segment"), ("lite0", "classify")])
def test_a_default_network_imports_neither_a_compiler_nor_a_zoo(name: str, task: str) -> None:
    code = (
        "import sys; from slicemill.model.networks.registry import architecture; "
        f"architecture({name!r}, {task!r}).build({{}}); print(*sys.modules)"
    )
    modules = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "slicemill.model.networks.lite0" in modules.split()
    assert not {"timm", "torchvision", "torch._dynamo", "sympy"} & set(modules.split())
