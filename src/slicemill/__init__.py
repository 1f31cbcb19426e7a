"""slicemill: raw MRI slices in S3 to tumour masks and per-patient Dice, on Spark.

Names are loaded when they are first used, so that importing the package costs nothing. Types are in the stub
beside this file.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

#: Public names by the module or package that holds them.
_HOMES = {
    "slicemill.api": (
        "open_lake",
        "open_run",
        "open_scores",
        "open_results",
        "start_session",
        "phantom",
        "ingest",
        "split",
        "train",
        "score",
        "predict",
        "serve",
        "promote",
        "rollback",
        "report",
        "crossval",
        "sweep",
        "compare",
        "associate",
        "committee",
        "forget",
        "verify",
        "export",
        "quantise",
    ),
    "slicemill.model.predicting.volumes": ("Predictor", "VolumePrediction"),
    "slicemill.config": (
        "PhantomConfig",
        "IngestConfig",
        "SplitConfig",
        "TrainConfig",
        "ScoreConfig",
        "ServeConfig",
        "PredictConfig",
        "PromoteConfig",
        "RollbackConfig",
        "ReportConfig",
        "CrossvalConfig",
        "SweepConfig",
        "CompareConfig",
        "AssociateConfig",
        "CommitteeConfig",
        "ForgetConfig",
        "ExportConfig",
        "QuantiseConfig",
    ),
    "slicemill.errors": ("SlicemillError",),
    "slicemill.core.evaluation.intervals": ("mean_interval",),
    "slicemill.core.evaluation.summary": ("patient_means",),
    "slicemill": ("figures",),
    "slicemill.pages": ("selection",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = ["__version__", *_HOME_OF]


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = import_module(_HOME_OF[name])
    value = vars(home).get(name) or import_module(f"{home.__name__}.{name}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
