"""What a user can set, one frozen dataclass per verb; a line under each field is its help text.

A dataclass checks itself when it is made, and its errors quote the flag.
"""

from slicemill.config.experiments import AssociateConfig, CommitteeConfig, CompareConfig, SweepConfig
from slicemill.config.lake import (
    MAX_PIXELS,
    PUBLIC_SCAN_PATTERN,
    ForgetConfig,
    IngestConfig,
    PhantomConfig,
    SplitConfig,
)
from slicemill.config.prediction import PredictConfig
from slicemill.config.promotion import PromoteConfig, RollbackConfig
from slicemill.config.results import ExportConfig, QuantiseConfig, ReportConfig, ScoreConfig
from slicemill.config.service import ServeConfig
from slicemill.config.training import CrossvalConfig, TrainConfig

__all__ = [
    "MAX_PIXELS",
    "PUBLIC_SCAN_PATTERN",
    "AssociateConfig",
    "CommitteeConfig",
    "CompareConfig",
    "CrossvalConfig",
    "ExportConfig",
    "ForgetConfig",
    "IngestConfig",
    "PhantomConfig",
    "PredictConfig",
    "PromoteConfig",
    "QuantiseConfig",
    "ReportConfig",
    "RollbackConfig",
    "ScoreConfig",
    "ServeConfig",
    "SplitConfig",
    "SweepConfig",
    "TrainConfig",
]
