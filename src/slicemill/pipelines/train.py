"""Train a network on a split of the lake."""

from __future__ import annotations

from typing import Any

from slicemill.config import TrainConfig
from slicemill.core.training.plan import labelled_slices
from slicemill.experiments.training import launch_plan, make_plan, resolve, scans_by_part
from slicemill.io.storage.uri import display, stored_uri
from slicemill.model.networks.registry import check_settings
from slicemill.spark.session import Session
from slicemill.spark.train import threads_per_rank


def run(config: TrainConfig, spark: Session) -> dict[str, Any]:
    """Train as configured and return the summary.

    Raises ConfigError for a split, fold, part or network that does not exist, or for a run that is finished;
    InputError for a lake that can't be trained on; BusyError if another training writes into --out;
    MachineError or TrainingError if the ranks can't start or go on.
    """
    config = resolve(config)
    check_settings(config)
    sides = scans_by_part(config)
    plan = make_plan(config, sides, threads_per_rank(spark, config.num_processes))
    return {
        "job": "train",
        "status": "done",
        **launch_plan(plan, spark),
        **{f"{part}_patients": len(set(patients)) for part, patients in sides.patients.items()},
        "train_slices": sum(labelled_slices(share) for share in plan.train),
        "run": display(stored_uri(config.out)),
    }
