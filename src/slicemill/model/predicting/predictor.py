"""A trained network for scoring: card and weights checked, uint8 slices in, probabilities out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from slicemill.config.checks import require_engine_can
from slicemill.io.run.card import Card, load_card
from slicemill.model.device import choose_device, choose_precision
from slicemill.model.input import resize, to_network_input
from slicemill.model.predicting.engines.choice import choose_engine
from slicemill.model.predicting.engines.engine import Engine, TorchEngine, mean_over_flips
from slicemill.model.predicting.engines.run_network import RunNetwork
from slicemill.model.predicting.settings import BATCH_SIZES
from slicemill.types import ScanImages, Uri


@dataclass(frozen=True)
class NetworkPredictor:
    """A network in its engine, and the card that came with it."""

    card: Card
    engine: Engine

    @classmethod
    def load(
        cls,
        run_uri: Uri,
        device: str = "auto",
        precision: str = "auto",
        threads: int | None = None,
        gpu: int = 0,
        engine: str = "auto",
    ) -> NetworkPredictor:
        """Load a training run's model.

        `run_uri`: canonical URI of the run. `device`: auto, cpu or cuda. `precision`: auto, fp32, bf16 or
        int8. `threads`: CPU threads of torch in this process; unchanged if None. `gpu`: which GPU, counted
        round.
        `engine`: auto, torch or onnx; see `choose_engine`. Raises ModelFileError if weights and card can't be
        read, do not belong together, name a network that this release does not have, or fail the model's
        self-test; MachineError for a GPU or an engine that is missing; ConfigError for ONNX Runtime on a GPU
        or in bf16, and for int8 by torch.
        """
        if threads is not None:
            torch.set_num_threads(threads)
        require_engine_can(engine, device, precision)
        if engine == "onnx" or precision == "int8":
            device, precision = "cpu", "int8" if precision == "int8" else "fp32"
        card = load_card(run_uri)
        place = choose_device(device, gpu)
        arithmetic = choose_precision(precision, place)
        return cls(card, choose_engine(engine, RunNetwork(run_uri, card), place, arithmetic))

    @property
    def device(self) -> torch.device:
        """Where the network's input is made."""
        return self.engine.device

    @property
    def usual_batch_size(self) -> int:
        """Slices of a forward pass where nobody tried what is fastest."""
        return BATCH_SIZES[self.engine.facts.name, self.device.type]

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
        logits_of = self.engine.logits
        return mean_over_flips(logits_of, inputs) if flips else logits_of(inputs)

    def predict(
        self, images: ScanImages, normalisation: npt.NDArray[np.float32], flips: bool = False
    ) -> npt.NDArray[np.float32]:
        """Tumour probability of every pixel.

        `images`: uint8, axes (N, H, W, C), one batch. `normalisation`: float32, axes (N, C, 4), each slice
        its own scan's. Returns float32 with axes (N, H, W), at the source's resolution. Raises ValueError
        for another number of channels than the network was trained on.
        """
        with torch.inference_mode():
            logits = self.logits(self.inputs(images, normalisation), flips)
            probabilities: npt.NDArray[np.float32] = at_source(logits, *images.shape[1:3]).cpu().numpy()
        return probabilities


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
    tensor = torch.tensor(array)
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor


def network_logits(
    network: nn.Module, inputs: Tensor, device: torch.device, precision: str, flips: bool = False
) -> Tensor:
    """Logits as float32; axes (N, 1, size, size), of a classifier (N, 1), of a committee a member each."""
    logits_of = TorchEngine(network, device, precision).logits
    return mean_over_flips(logits_of, inputs) if flips else logits_of(inputs)


def at_source(logits: Tensor, height: int, width: int) -> Tensor:
    """Probabilities from logits: float32 (N, height, width), of a classifier (N,); a committee's mean."""
    probabilities = torch.sigmoid(logits if logits.ndim == 2 else resize(logits, height, width))
    return probabilities[:, 0] if probabilities.shape[1] == 1 else probabilities.mean(dim=1)
