"""A run folder with an untrained network, for tests of everything that comes after training."""

from __future__ import annotations

from functools import lru_cache

import safetensors.torch
import torch

from slicemill.core.scans.normalise import RULE_NAMES
from slicemill.core.scans.scan import SEQUENCES
from slicemill.io import storage
from slicemill.io.run.card import Card, save_card, sha256, weights_uri
from slicemill.model.networks.registry import architecture
from slicemill.model.predicting.self_test import run_self_test


def write_run(run: str, seed: int = 0, size: int = 64, name: str = "unet-resnet18") -> Card:
    """Write model.safetensors and model.json below a canonical URI and return the card."""
    torch.manual_seed(seed)
    data, card = _untrained(seed, size, name)
    storage.write_bytes(weights_uri(run), data)
    save_card(run, card)
    return card


# Test after test writes the same run; its weights take 60 megabytes and seconds.
@lru_cache(maxsize=2)
def _untrained(seed: int, size: int, name: str) -> tuple[bytes, Card]:
    torch.manual_seed(seed)
    network = architecture(name, "segment").build()
    _centre(network, size)
    tensors = {name: tensor.contiguous() for name, tensor in network.state_dict().items()}
    data = safetensors.torch.save(tensors)
    card = Card(
        task="segment",
        architecture=name,
        channels=SEQUENCES,
        normalisation=RULE_NAMES["volume"],
        input_size=size,
        threshold=0.5,
        split="none",
        split_hash="0",
        data_hash="0",
        metrics={},
        versions={},
        training={"epochs": 0},
        weights_sha256=sha256(data),
        self_test=run_self_test(network, len(SEQUENCES), size),
    )
    return data, card


def _centre(network: torch.nn.Module, size: int) -> None:
    """Shift the last layer so that about half of all pixels are tumour: masks that show a difference."""
    network.eval()
    with torch.inference_mode():
        middle = network(torch.randn(2, 3, size, size)).median()
    (*_, last) = (module for module in network.modules() if isinstance(module, torch.nn.Conv2d))
    with torch.no_grad():
        last.bias.sub_(middle.clone())
