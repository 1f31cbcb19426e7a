"""How to score, as a value that travels to the workers; one predictor a process, loaded by it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from functools import lru_cache

from slicemill.core.evaluation.options import PredictionOptions
from slicemill.errors import ModelFileError
from slicemill.io.storage.uri import display
from slicemill.model.predicting.predictor import Predictor
from slicemill.types import Uri

#: Slices of a forward pass unless asked otherwise. On a CPU more fall out of its caches.
BATCH_SIZES = {"cpu": 8, "cuda": 64}


@dataclass(frozen=True)
class ScoreSettings:
    """How to score: which model, on what, from which probability on, with which options."""

    model: Uri
    model_id: str
    threshold: float
    options: PredictionOptions = field(default_factory=PredictionOptions)
    device: str = "auto"
    precision: str = "auto"
    threads: int | None = None
    batch_size: int | None = None

    def entry_key(self, fingerprint: str) -> str:
        """Key of a manifest entry: the model, and a hash of the input and of what changes the output."""
        text = "|".join([fingerprint, str(self.threshold), *self.options.names])
        return f"{self.model_id}-{hashlib.blake2b(text.encode(), digest_size=8).hexdigest()}"


def loaded(settings: ScoreSettings, gpu: int = 0) -> Predictor:
    """The predictor of this process, loaded once.

    Raises ModelFileError if the run holds another model than the settings name.
    """
    predictor = _loaded(
        settings.model, settings.model_id, settings.device, settings.precision, settings.threads, gpu
    )
    if predictor.model_id != settings.model_id:
        raise ModelFileError(
            f"{display(settings.model)} was written again while it scored",
            expected=f"model {settings.model_id}",
            found=predictor.model_id,
            advice="Score again.",
        )
    return predictor


# By the id too: a worker outlives a job, and the next one may bring another model in the same place.
@lru_cache(maxsize=2)
def _loaded(
    model: Uri, model_id: str, device: str, precision: str, threads: int | None, gpu: int
) -> Predictor:
    return Predictor.load(model, device, precision, threads, gpu)
