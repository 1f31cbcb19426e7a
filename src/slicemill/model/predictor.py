"""A trained network for scoring: card and weights checked, uint8 slices in, probabilities out."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import nn

from slicemill.errors import ConfigError, ModelFileError
from slicemill.io import storage
from slicemill.io.card import Card, load_card, sha256, weights_uri
from slicemill.io.uri import display
from slicemill.model.device import autocast, choose_device, choose_precision, placed
from slicemill.model.input import resize, to_network_input
from slicemill.model.registry import architecture
from slicemill.types import ScanImages

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Predictor:
    """A network on its device, and the card that came with it."""

    card: Card
    network: nn.Module
    device: torch.device
    precision: str

    @classmethod
    def load(
        cls, run_uri: str, device: str = "auto", precision: str = "auto", threads: int | None = None
    ) -> Predictor:
        """Load a training run's model.

        `run_uri`: canonical URI of the run. `device`: auto, cpu or cuda; `precision`: auto, fp32 or bf16.
        `threads`: CPU threads of torch in this process; unchanged if None. Raises ModelFileError if weights
        and card can't be read, do not belong together, or name a network that this release does not have.
        """
        if threads is not None:
            torch.set_num_threads(threads)
        card = load_card(run_uri)
        chosen = choose_device(device)
        network = placed(_load_network(run_uri, card), chosen).eval()
        return cls(card, network, chosen, choose_precision(precision, chosen))

    @property
    def model_id(self) -> str:
        """First 16 hex digits of the SHA-256 of the weights file."""
        return self.card.model_id

    def predict(self, images: ScanImages, normalisation: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Tumour probability of every pixel.

        `images`: uint8, axes (N, H, W, C), one batch. `normalisation`: float32, axes (N, C, 4), each slice
        its own scan's. Returns float32 with axes (N, H, W), at the source's resolution. Raises ValueError
        for another number of channels than the network was trained on.
        """
        if images.ndim != 4 or images.shape[3] != len(self.card.channels):
            raise ValueError(
                f"images: expected axes (N, H, W, {len(self.card.channels)}), found shape {images.shape}"
            )
        return probabilities(
            self.network, images, normalisation, self.card.input_size, self.device, self.precision
        )


def probabilities(
    network: nn.Module,
    images: ScanImages,
    normalisation: npt.NDArray[np.float32],
    size: int,
    device: torch.device,
    precision: str,
) -> npt.NDArray[np.float32]:
    """Tumour probability of every pixel at source resolution, for scoring and validation alike.

    `network` must be in evaluation mode; arrays as in `Predictor.predict`, `size` is the network's input.
    """
    height, width = images.shape[1:3]
    with torch.inference_mode():
        inputs = to_network_input(
            torch.tensor(images, device=device), torch.tensor(normalisation, device=device), size
        )
        with autocast(device, precision):
            logits = network(inputs)
        found = torch.sigmoid(resize(logits.float(), height, width))
    result: npt.NDArray[np.float32] = found[:, 0].cpu().numpy()
    return result


def _load_network(run_uri: str, card: Card) -> nn.Module:
    uri = weights_uri(run_uri)
    data = storage.read_bytes(uri) if storage.exists(uri) else b""
    try:
        weights = safetensors.torch.load(data)
    except SafetensorError as error:
        raise ModelFileError(
            f"{display(uri)} is no safetensors file",
            expected="the weights that train wrote",
            found=f"{len(data)} bytes" if data else "no file",
            advice="Train again, or copy the whole run folder.",
        ) from error
    if sha256(data) != card.weights_sha256:
        raise ModelFileError(
            f"{display(uri)} does not belong to its card",
            expected=f"SHA-256 {card.weights_sha256}",
            found=sha256(data),
            advice="Copy model.safetensors and model.json from the same run.",
        )
    return _fill(_build(uri, card), weights, uri)


def _build(uri: str, card: Card) -> nn.Module:
    try:
        return architecture(card.architecture, card.task).build()
    except ConfigError as error:
        raise ModelFileError(
            f"{display(uri)} is of a network that this release does not have",
            expected=error.expected,
            found=f"{card.architecture} for {card.task}",
            advice="Score with the release that trained it.",
        ) from error


def _fill(network: nn.Module, weights: dict[str, torch.Tensor], uri: str) -> nn.Module:
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:
        raise ModelFileError(
            f"{display(uri)} does not fit its network",
            expected="the tensors of the card's architecture",
            found=str(error),
        ) from error
    return network
