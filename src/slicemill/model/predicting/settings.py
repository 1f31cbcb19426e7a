"""How to score, as a value that travels to the workers; made without torch."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

from slicemill.core.evaluation.options import PredictionOptions
from slicemill.types import Spacing, Uri

#: Slices of a forward pass by default, by engine and device. On a CPU more fall out of its caches.
BATCH_SIZES = {("torch", "cpu"): 8, ("torch", "cuda"): 64, ("onnxruntime", "cpu"): 1}


@dataclass(frozen=True)
class ScoreSettings:
    """How to score: which model, on what, from which probability on, with which options."""

    model: Uri
    model_id: str
    threshold: float
    options: PredictionOptions = field(default_factory=PredictionOptions)
    device: str = "auto"
    precision: str = "auto"
    engine: str = "auto"
    threads: int | None = None
    batch_size: int | None = None
    extras: tuple[str, ...] = ()

    def entry_key(self, fingerprint: str, spacing: Spacing | None = None) -> str:
        """Key of a manifest entry: the model, and a hash of the input and of what changes the output."""
        sides = () if spacing is None else ("x".join(map(str, spacing)),)
        # fp32 and bf16 differ by rounding, so that a cluster may change its processors; int8 by more.
        arithmetic = ("int8",) if self.precision == "int8" else ()
        parts = [fingerprint, str(self.threshold), *self.options.names, *self.extras, *sides, *arithmetic]
        text = "|".join(parts)
        return f"{self.model_id}-{hashlib.blake2b(text.encode(), digest_size=8).hexdigest()}"
