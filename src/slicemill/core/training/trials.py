"""A trial of a study, as it is published and drawn."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class TrialRow:
    """A trial: complete, pruned, failed or running.

    `score` is what its run is worth, None until it has ended well; `scores` are those of its epochs.
    """

    number: int
    state: str
    score: float | None
    scores: tuple[float, ...]
    settings: Mapping[str, Any]
    seconds: float
    reason: str | None
