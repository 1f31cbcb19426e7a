"""The moving average of weights and the buffers in one piece, against torch's own."""

from __future__ import annotations

import copy

import pytest
import safetensors.torch
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from slicemill.model.networks.registry import architecture
from slicemill.model.training.average import FlatBuffers, WeightAverage
from slicemill.model.training.checkpoint import network_bytes


@pytest.fixture
def network() -> nn.Module:
    torch.manual_seed(0)
    return architecture("tiny").build()


def _run(network: nn.Module) -> None:
    network.train()(torch.randn(4, 3, 32, 32))


def test_flat_buffers_are_the_networks_own(network: nn.Module) -> None:
    plain = copy.deepcopy(network)
    FlatBuffers(network)
    torch.manual_seed(1)
    _run(network)
    torch.manual_seed(1)
    _run(plain)

    assert network.state_dict().keys() == plain.state_dict().keys()
    for ours, theirs in zip(network.buffers(), plain.buffers(), strict=True):
        assert torch.equal(ours, theirs)
    stored = safetensors.torch.load(network_bytes(network))
    assert all(torch.equal(stored[name], tensor) for name, tensor in plain.state_dict().items())


def test_buffers_are_restored_unless_the_step_counts(network: nn.Module) -> None:
    buffers = FlatBuffers(network)
    before = [buffer.clone() for buffer in network.buffers()]
    buffers.save()
    _run(network)
    for flat in buffers.real:
        flat[0] = torch.nan
    after = [buffer.clone() for buffer in network.buffers()]

    buffers.restore_unless(torch.tensor(True))
    assert all(
        torch.equal(
            now,
            kept,
        )
        or now.isnan().any()
        for now, kept in zip(network.buffers(), after, strict=True)
    )
    buffers.restore_unless(torch.tensor(False))
    assert all(torch.equal(now, kept) for now, kept in zip(network.buffers(), before, strict=True))


def test_the_average_is_that_of_torch(network: nn.Module) -> None:
    def follow(averages: list[torch.Tensor], weights: list[torch.Tensor], steps: torch.Tensor) -> None:
        torch._foreach_lerp_(averages, weights, 1 - min(0.9, (1 + int(steps)) / (10 + int(steps))))

    ours, theirs = WeightAverage(network, 0.9), AveragedModel(network, multi_avg_fn=follow)
    for _ in range(5):
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.add_(torch.randn_like(parameter))
        ours.update()
        theirs.update_parameters(network)
    ours.take_buffers(network)

    # Runs that an earlier release began go on: the names are torch's own.
    assert ours.state_dict().keys() == theirs.state_dict().keys()
    for name, tensor in theirs.state_dict().items():
        assert torch.equal(ours.state_dict()[name], tensor), name


def test_an_average_goes_on_where_it_was_saved(network: nn.Module) -> None:
    first = WeightAverage(network, 0.99)
    first.update()
    second = WeightAverage(network, 0.99)
    second.load_state_dict(first.state_dict())
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(1.0)
    first.update()
    second.update()

    for one, other in zip(first.module.parameters(), second.module.parameters(), strict=True):
        assert torch.equal(one, other)
