"""A finished run is never wiped in silence: whether one lies where a training would write."""

from __future__ import annotations

from slicemill.config import TrainConfig
from slicemill.errors import ConfigError
from slicemill.io import storage
from slicemill.io.places import Run
from slicemill.io.storage.uri import display
from slicemill.types import Uri


def refuse_finished(home: Uri, config: TrainConfig) -> None:
    """Raise ConfigError if a folder holds a finished run, which neither --resume nor --overwrite is about."""
    if storage.exists(Run(home).card) and not config.resume and not config.overwrite:
        raise ConfigError(
            f"{display(home)} holds a finished run",
            expected="a folder without a model card",
            found="model.json",
            advice="Give another --out, --resume to go on with it, or --overwrite to replace it.",
        )
