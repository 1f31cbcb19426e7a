"""What computes a network's logits: torch, the reference, here; ONNX Runtime in `onnx_engine`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from slicemill.core.engine import EngineFacts
from slicemill.model.device import autocast

#: Axes of (N, C, H, W) that test-time augmentation flips: training does both.
_FLIPS: tuple[tuple[int, ...], ...] = ((), (2,), (3,), (2, 3))


class Engine(Protocol):
    """Computes logits of one network; safe to call from several threads at once."""

    @property
    def facts(self) -> EngineFacts:
        """Its name, version and arithmetic, and how far it is from torch."""

    @property
    def device(self) -> torch.device:
        """Where its input is best made."""

    def logits(self, inputs: Tensor) -> Tensor:
        """Logits as float32 on `device`; axes (N, M, H, W) for input (N, C, H, W), of a classifier (N, M)."""


@dataclass(frozen=True)
class TorchEngine:
    """A network in evaluation mode on its device."""

    network: nn.Module
    device: torch.device
    precision: str

    @property
    def facts(self) -> EngineFacts:
        """torch, its version and the arithmetic of the forward pass."""
        return EngineFacts("torch", torch.__version__, self.precision)

    def logits(self, inputs: Tensor) -> Tensor:
        """See `Engine.logits`."""
        with autocast(self.device, self.precision):
            logits: Tensor = self.network(inputs.contiguous(memory_format=torch.channels_last))
        return logits.float()


def mean_over_flips(logits_of: Callable[[Tensor], Tensor], inputs: Tensor) -> Tensor:
    """The mean of the logits over an input's four flips, each turned back."""
    logits: list[Tensor] = []
    for axes in _FLIPS:
        flipped = logits_of(inputs.flip(axes) if axes else inputs)
        logits.append(flipped.flip(axes) if axes and flipped.ndim == 4 else flipped)
    return torch.stack(logits).mean(dim=0)
