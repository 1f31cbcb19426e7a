"""A model is what was validated, or it is refused."""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path

import pytest
import safetensors.torch
import torch
from run_builder import write_run
from torch import nn

from slicemill.errors import ModelFileError
from slicemill.io import storage
from slicemill.io.run.card import SelfTest, load_card, save_card, sha256, weights_uri
from slicemill.io.storage.uri import canonical
from slicemill.model.networks.registry import ARCHITECTURES
from slicemill.model.predicting import fusion
from slicemill.model.predicting.engines import run_network
from slicemill.model.predicting.predictor import NetworkPredictor
from slicemill.model.predicting.self_test import probe_input, run_self_test
from slicemill.types import Uri

FAILS = r"fails its self-test.*difference.*--precision fp32"


@pytest.fixture
def run(tmp_path: Path) -> Uri:
    home = canonical(str(tmp_path / "run"))
    write_run(home)
    return home


def _load(run: Uri, precision: str = "fp32") -> NetworkPredictor:
    return NetworkPredictor.load(run, "cpu", precision, threads=1, engine="torch")


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_model_passes_its_own_test_in_every_arithmetic(run: Uri, precision: str) -> None:
    assert _load(run, precision).card.self_test is not None


def test_no_swapped_channel_and_no_flip_goes_unseen() -> None:
    torch.manual_seed(0)
    network = ARCHITECTURES["monai-unet"].build({"filters": 8})
    with torch.no_grad():
        for _ in range(10):
            network.train()(probe_input(3, 64) + 0.3 * torch.randn(4, 3, 64, 64))
    network.eval()
    own = torch.tensor(run_self_test(network, 3, 64).logits)
    swapped = torch.tensor(run_self_test(_Before(network, lambda x: x[:, [1, 0, 2]]), 3, 64).logits)
    flipped = torch.tensor(run_self_test(_Before(network, lambda x: x.flip(3)), 3, 64).logits)

    assert min((own - swapped).abs().max(), (own - flipped).abs().max()) > 0.01 * max(1, own.abs().max())


class _Before(nn.Module):
    """A network that sees its input changed."""

    def __init__(self, network: nn.Module, change) -> None:
        super().__init__()
        self.network, self.change = network, change

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.network(self.change(inputs))


def test_a_network_that_gives_something_else_is_refused(run: Uri) -> None:
    card = load_card(run)
    test = card.self_test
    save_card(
        run,
        dataclasses.replace(card, self_test=SelfTest(test.size, (test.logits[0] + 0.1, *test.logits[1:]))),
    )

    with pytest.raises(ModelFileError, match=FAILS):
        _load(run)


def test_a_folding_that_loses_something_is_noticed(run: Uri, monkeypatch: pytest.MonkeyPatch) -> None:
    def lossy(network: nn.Module, example: torch.Tensor) -> int:
        names = [name for name, module in network.named_modules() if isinstance(module, nn.ReLU)]
        network.set_submodule(names[-1], nn.Identity())
        return fusion.fuse(network, example)

    monkeypatch.setattr(run_network, "fuse", lossy)
    with pytest.raises(ModelFileError, match=FAILS):
        _load(run)


def test_a_test_of_another_length_is_not_passed(run: Uri) -> None:
    card = load_card(run)
    save_card(run, dataclasses.replace(card, self_test=SelfTest(64, card.self_test.logits[:-1])))

    with pytest.raises(ModelFileError, match="fails its self-test"):
        _load(run)


def test_an_older_card_is_read_with_a_line_that_says_so(run: Uri, caplog: pytest.LogCaptureFixture) -> None:
    save_card(run, dataclasses.replace(load_card(run), self_test=None))

    with caplog.at_level(logging.WARNING, "slicemill"):
        _load(run)

    assert ["has no self-test" in record.getMessage() for record in caplog.records] == [True]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused(run: Uri, value: float) -> None:
    tensors = safetensors.torch.load(storage.read_bytes(weights_uri(run)))
    tensors["head.0.bias"][1] = value
    data = safetensors.torch.save(tensors)
    storage.write_bytes(weights_uri(run), data)
    save_card(run, dataclasses.replace(load_card(run), weights_sha256=sha256(data)))

    with pytest.raises(ModelFileError, match="weights that are not finite"):
        _load(run)


def test_a_network_without_finite_numbers_is_not_published() -> None:
    network = nn.Conv2d(3, 1, 1)
    nn.init.constant_(network.bias, float("nan"))

    with pytest.raises(ModelFileError, match="not finite"):
        run_self_test(network, 3, 32)
