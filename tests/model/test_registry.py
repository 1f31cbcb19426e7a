from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path

import pytest
import safetensors.torch
import torch
from run_builder import write_run

from slicemill.errors import ConfigError
from slicemill.io import storage
from slicemill.io.run.card import Card, sha256, weights_uri
from slicemill.io.run.weights import count_parameters
from slicemill.io.storage.uri import canonical
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


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Card]:
    home = canonical(str(tmp_path_factory.mktemp("run")))
    return home, write_run(home)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_a_weights_file_tells_how_many_parameters_its_network_has(
    run: tuple[str, Card], tmp_path: Path, name: str
) -> None:
    network, home = ARCHITECTURES[name].build(), canonical(str(tmp_path))
    tensors = {key: tensor.contiguous() for key, tensor in network.state_dict().items()}
    data = safetensors.torch.save(tensors, {"written": "by a test"})
    storage.write_bytes(weights_uri(home), data)
    card = dataclasses.replace(run[1], architecture=name, weights_sha256=sha256(data))

    assert count_parameters(home, card) == sum(parameter.numel() for parameter in network.parameters())


def test_the_facts_of_a_model_need_no_torch(run: tuple[str, Card]) -> None:
    look_up = (
        "from slicemill.experiments.facts import model_facts; from slicemill.io.run.card import load_card; "
        f"model_facts({run[0]!r}, load_card({run[0]!r}))"
    )
    script = f"import sys; {look_up}; sys.exit('torch' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
