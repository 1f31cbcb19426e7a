"""What computed a network's output, as scores tell it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Parity:
    """How far an engine is from torch, on fixed inputs.

    `largest_difference` of a probability, and the share of a mask's pixels that differ.
    """

    largest_difference: float
    mask_share: float


@dataclass(frozen=True)
class EngineFacts:
    """An engine's name (torch or onnxruntime), version and arithmetic; torch has no parity."""

    name: str
    version: str
    precision: str
    parity: Parity | None = None

    def __str__(self) -> str:
        return f"{self.name} {self.version} {self.precision}"
