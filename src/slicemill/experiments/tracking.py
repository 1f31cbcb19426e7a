"""The MLflow run of a cross-validation or a sweep, which those of its folds or trials are children of."""

from __future__ import annotations

import dataclasses

from slicemill.config import TrainConfig
from slicemill.experiments.training import resolve
from slicemill.io.run.tracking_store import RunEntry
from slicemill.io.storage.uri import canonical, display
from slicemill.types import Uri


def parent_entry(config: TrainConfig, record: Uri) -> RunEntry | None:
    """What the run is to be, remembered in the file `record`; None without --track."""
    if config.track is None:
        return None
    out = canonical(config.out)
    parameters = dataclasses.asdict(config) | {"out": display(out), "lake": display(canonical(config.lake))}
    return RunEntry(
        str(resolve(config).track),
        config.experiment,
        config.run_name or out.rpartition("/")[2],
        record,
        parameters,
    )
