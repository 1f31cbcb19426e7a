from __future__ import annotations

import copy

import torch
from torch import nn

from slicemill.model.depthwise import keep_depthwise_in_fp32
from slicemill.model.networks.registry import architecture


def network() -> nn.Module:
    torch.manual_seed(0)
    depthwise = nn.Conv2d(8, 8, 5, padding=2, groups=8, bias=False)
    return nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), depthwise, nn.Conv2d(8, 1, 1))


def outputs_in_bf16(model: nn.Module, inputs: torch.Tensor) -> list[torch.Tensor]:
    """What each layer gives under autocast."""
    layers: list[torch.Tensor] = []
    hooks = [layer.register_forward_hook(lambda *call: layers.append(call[2])) for layer in model]
    with torch.autocast("cpu", torch.bfloat16):
        model(inputs)
    for hook in hooks:
        hook.remove()
    return layers


def test_only_depthwise_layers_leave_autocast_and_weights_keep_their_names() -> None:
    model = network()
    names, inputs = list(model.state_dict()), torch.randn(2, 3, 16, 16)
    assert [layer.dtype for layer in outputs_in_bf16(model, inputs)] == 3 * [torch.bfloat16]
    keep_depthwise_in_fp32(model)
    dense, depthwise, last = outputs_in_bf16(model, inputs)
    assert (dense.dtype, depthwise.dtype, last.dtype) == (torch.bfloat16, torch.float32, torch.bfloat16)
    assert list(model.state_dict()) == names
    reference = nn.functional.conv2d(dense.float(), model[1].weight, padding=2, groups=8)
    assert torch.equal(depthwise, reference)


def test_a_copy_computes_with_its_own_weights() -> None:
    model = network()
    keep_depthwise_in_fp32(model)
    average, inputs = copy.deepcopy(model), torch.randn(1, 3, 8, 8)
    before = model(inputs)
    with torch.no_grad():
        average[1].weight.zero_()
    assert torch.equal(model(inputs), before)
    assert average(inputs).std() < 1e-6


def test_the_gradient_of_a_depthwise_weight_is_that_of_fp32() -> None:
    inputs = torch.randn(2, 8, 16, 16, dtype=torch.bfloat16)
    layer = network()[1]
    (expected,) = torch.autograd.grad(layer(inputs.float()).square().sum(), layer.weight)
    holder = nn.Sequential(layer)
    keep_depthwise_in_fp32(holder)
    with torch.autocast("cpu", torch.bfloat16):
        (gradient,) = torch.autograd.grad(holder(inputs).square().sum(), layer.weight)
    assert torch.equal(gradient, expected)


def test_the_default_network_has_sixteen_of_them() -> None:
    model = architecture("unet-lite0", "segment").build()
    keep_depthwise_in_fp32(model)
    assert sum("forward" in vars(module) for module in model.modules()) == 16
