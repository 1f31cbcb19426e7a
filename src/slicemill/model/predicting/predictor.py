"""A trained network for scoring: card and weights checked, uint8 slices in, probabilities out."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from slicemill.errors import ConfigError, ModelFileError
from slicemill.io.run.card import Card, SelfTest, load_card, member_uri, weights_uri
from slicemill.io.run.weights import member_cards, read_weights
from slicemill.io.storage.uri import display
from slicemill.model.device import autocast, choose_device, choose_precision, to_device
from slicemill.model.input import resize, to_network_input
from slicemill.model.networks.registry import trusted_architecture
from slicemill.model.predicting.committee import Committee
from slicemill.model.predicting.fusion import fuse
from slicemill.model.predicting.self_test import check_self_test, probe_input, tolerance
from slicemill.types import ScanImages, Uri

log = logging.getLogger(__name__)

#: Axes of (N, C, H, W) that test-time augmentation flips: training does both.
_FLIPS: tuple[tuple[int, ...], ...] = ((), (2,), (3,), (2, 3))


@dataclass(frozen=True)
class NetworkPredictor:
    """A network on its device, and the card that came with it."""

    card: Card
    network: nn.Module
    device: torch.device
    precision: str

    @classmethod
    def load(
        cls,
        run_uri: Uri,
        device: str = "auto",
        precision: str = "auto",
        threads: int | None = None,
        gpu: int = 0,
    ) -> NetworkPredictor:
        """Load a training run's model.

        `run_uri`: canonical URI of the run. `device`: auto, cpu or cuda; `precision`: auto, fp32 or bf16.
        `threads`: CPU threads of torch in this process; unchanged if None. `gpu`: which GPU, counted round.
        Raises ModelFileError if weights and card can't be read, do not belong together, name a network that
        this release does not have, or fail the model's self-test; MachineError for a GPU that is not there.
        """
        if threads is not None:
            torch.set_num_threads(threads)
        chosen = choose_device(device, gpu)
        card = load_card(run_uri)
        network = load_network(run_uri, card).eval()
        folded = fuse(network, probe_input(len(card.channels), card.input_size))
        log.info("model %s: %d batch norms folded", card.model_id, folded)
        predictor = cls(card, to_device(network, chosen), chosen, choose_precision(precision, chosen))
        predictor.check(_self_tests(run_uri, card))
        return predictor

    def check(self, tests: Sequence[SelfTest | None]) -> None:
        """Raise ModelFileError if the network does not pass its self-tests; see `check_self_test`."""
        if None in tests:
            log.warning("model %s has no self-test: an earlier release published it", self.model_id)

        def logits_of(inputs: Tensor) -> Tensor:
            with torch.inference_mode():
                return self.logits(inputs.to(self.device))

        limit = tolerance(self.device, self.precision)
        check_self_test(logits_of, tests, len(self.card.channels), limit, f"model {self.model_id}")

    @property
    def model_id(self) -> str:
        """First 16 hex digits of the SHA-256 of the weights file."""
        return self.card.model_id

    def inputs(self, images: ScanImages, normalisation: npt.NDArray[np.float32]) -> Tensor:
        """Network input of slices; see `to_network_input`. Raises ValueError for other channels."""
        if images.ndim != 4 or images.shape[3] != len(self.card.channels):
            raise ValueError(
                f"images: expected axes (N, H, W, {len(self.card.channels)}), found shape {images.shape}"
            )
        return network_inputs(images, normalisation, self.card.input_size, self.device)

    def logits(self, inputs: Tensor, flips: bool = False) -> Tensor:
        """The network's output for its input; with `flips` the mean over the input's four flips."""
        return network_logits(self.network, inputs, self.device, self.precision, flips)

    def predict(self, images: ScanImages, normalisation: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Tumour probability of every pixel.

        `images`: uint8, axes (N, H, W, C), one batch. `normalisation`: float32, axes (N, C, 4), each slice
        its own scan's. Returns float32 with axes (N, H, W), at the source's resolution. Raises ValueError
        for another number of channels than the network was trained on.
        """
        with torch.inference_mode():
            logits = self.logits(self.inputs(images, normalisation))
            found: npt.NDArray[np.float32] = at_source(logits, *images.shape[1:3]).cpu().numpy()
        return found


def probabilities(
    network: nn.Module,
    images: ScanImages,
    normalisation: npt.NDArray[np.float32],
    size: int,
    device: torch.device,
    precision: str,
    flips: bool = False,
) -> npt.NDArray[np.float32]:
    """Tumour probability of every pixel at source resolution, for scoring and validation alike.

    `network` must be in evaluation mode; arrays as in `NetworkPredictor.predict`, `size` is the network's
    input. A classifier's are one a slice, axes (N,).
    """
    with torch.inference_mode():
        inputs = network_inputs(images, normalisation, size, device)
        logits = network_logits(network, inputs, device, precision, flips)
        result: npt.NDArray[np.float32] = at_source(logits, *images.shape[1:3]).cpu().numpy()
    return result


def network_inputs(
    images: ScanImages, normalisation: npt.NDArray[np.float32], size: int, device: torch.device
) -> Tensor:
    """Slices as uint8 on the device, and there as network input."""
    return to_network_input(_sent(images, device), _sent(normalisation, device), size)


def _sent(array: npt.NDArray[np.generic], device: torch.device) -> Tensor:
    # A copy even on CPU: decoded slices are views of read-only bytes.
    held = torch.tensor(array)
    return held.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else held


def network_logits(
    network: nn.Module, inputs: Tensor, device: torch.device, precision: str, flips: bool = False
) -> Tensor:
    """Logits as float32; axes (N, 1, size, size), of a classifier (N, 1), of a committee a member each."""
    found: list[Tensor] = []
    for axes in _FLIPS if flips else _FLIPS[:1]:
        with autocast(device, precision):
            logits = network(inputs.flip(axes).contiguous(memory_format=torch.channels_last))
        found.append((logits.flip(axes) if axes and logits.ndim == 4 else logits).float())
    return torch.stack(found).mean(dim=0) if flips else found[0]


def at_source(logits: Tensor, height: int, width: int) -> Tensor:
    """Probabilities from logits: float32 (N, height, width), of a classifier (N,); a committee's mean."""
    probabilities = torch.sigmoid(logits if logits.ndim == 2 else resize(logits, height, width))
    return probabilities[:, 0] if probabilities.shape[1] == 1 else probabilities.mean(dim=1)


def load_network(run_uri: Uri, card: Card) -> nn.Module:
    """The network of a run, with its weights.

    Raises ModelFileError as `NetworkPredictor.load` does; its self-test is not made.
    """
    if card.members:
        members = member_cards(run_uri, card)
        return Committee([load_network(home, member) for home, member in members.items()])
    uri, data = weights_uri(run_uri), read_weights(run_uri, card)
    try:
        weights = safetensors.torch.load(data)
    except SafetensorError as error:
        raise ModelFileError(
            f"{display(uri)} is not a safetensors file",
            expected="the weights that train wrote",
            found=str(error),
            advice="Train again, or copy the whole run folder.",
        ) from error
    return _fill(_build(uri, card), weights, uri)


def _self_tests(run_uri: Uri, card: Card) -> list[SelfTest | None]:
    """The self-test of a model, or those of a committee's members in the order of its logits."""
    if not card.members:
        return [card.self_test]
    return [load_card(member_uri(run_uri, model_id)).self_test for model_id in card.members]


def _build(uri: Uri, card: Card) -> nn.Module:
    try:
        return trusted_architecture(card.architecture, card.task).build(card.training)
    except ConfigError as error:
        raise ModelFileError(
            f"{display(uri)} is of a network that can't be built here",
            expected=error.expected,
            found=f"{card.architecture} for {card.task}",
            advice=error.advice or "Score with the release that trained it.",
        ) from error


def _fill(network: nn.Module, weights: dict[str, torch.Tensor], uri: Uri) -> nn.Module:
    if not all(bool(torch.isfinite(tensor).all()) for tensor in weights.values()):
        raise ModelFileError(
            f"{display(uri)} holds weights that are not finite",
            expected="finite numbers",
            found="NaN or infinity",
            advice="Train again.",
        )
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:
        raise ModelFileError(
            f"{display(uri)} does not fit its network",
            expected="the tensors of the card's architecture",
            found=str(error),
        ) from error
    return network
