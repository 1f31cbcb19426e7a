"""New scan folders, or a part of a split, to masks and per-patient Dice."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from slicemill.config import ScoreConfig
from slicemill.experiments.scoring import score

if TYPE_CHECKING:
    from slicemill.spark.session import Session


def run(config: ScoreConfig, spark: Session | None = None) -> dict[str, Any]:
    """Score what has no manifest entry yet, and return the summary; a session is opened only if needed.

    Raises ModelFileError for a model that can't be trusted, InputError or ConfigError for wrong input.
    """
    return score(config, spark)
