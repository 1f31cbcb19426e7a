from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from slicemill.errors import ConfigError
from slicemill.model.networks.registry import ARCHITECTURES, architecture


@pytest.mark.parametrize("name", [name for name, entry in ARCHITECTURES.items() if entry.task == "segment"])
def test_a_segmentation_network_gives_a_logit_a_pixel_and_every_parameter_learns(name: str) -> None:
    network = architecture(name, "segment").build()

    logits = network(torch.randn(2, 3, 64, 96))
    torch.autograd.backward(logits.square().sum())

    assert logits.shape == (2, 1, 64, 96)
    assert [key for key, parameter in network.named_parameters() if parameter.grad is None] == []


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_an_encoder_is_a_part_of_its_network(name: str) -> None:
    entry = ARCHITECTURES[name]

    assert entry.encoder is None or list(entry.build().get_submodule(entry.encoder).parameters())


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"--model.*unet-resnet18.*found unet-resnet19"):
        architecture("unet-resnet19")


def test_a_network_of_another_task() -> None:
    with pytest.raises(ConfigError, match=r"for --task classify"):
        architecture("unet-resnet18", "classify")


def test_looking_up_a_name_does_not_import_torch() -> None:
    look_up = "from slicemill.model.networks.registry import architecture; architecture('unet-resnet18')"
    script = f"import sys; {look_up}; sys.exit('torch' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
