"""Results side by side: what each says of its model, and how two of them differ."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from slicemill.core.evaluation.document import document
from slicemill.core.evaluation.intervals import Interval
from slicemill.core.evaluation.summary import PairedDifference


@dataclass(frozen=True)
class ModelFacts:
    """The model behind a result: its network, its size, and what it cost to train.

    `training_seconds` are those of all passes over the training part, validation apart; None where the run's
    metrics were not copied along.
    """

    task: str
    architecture: str
    split: str
    input_size: int
    parameters: int
    training_device: str | None
    training_seconds: float | None

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> ModelFacts:
        """The facts among what a result's JSON holds."""
        return cls(**{field.name: stored[field.name] for field in dataclasses.fields(cls)})


@dataclass(frozen=True)
class ResultFacts:
    """A result's model, and what is known of the result beyond its patients' values.

    `data_hash`, `made_on` (processor, cores and memory) and `command` are None where the result does not hold
    them, numbers of a classifier where the network draws masks.
    """

    model: ModelFacts
    trained_models: int
    scoring_slices_per_second: float | None
    data_hash: str | None = None
    slices_with_truth: int | None = None
    slice_accuracy: Interval | None = None
    slice_auroc: Interval | None = None
    made_on: Mapping[str, Any] | None = None
    command: str | None = None


@dataclass(frozen=True)
class ComparedRun:
    """A line of a comparison; `seen_patients` are those that the model was trained or chosen on."""

    name: str
    judged_on: str
    patients: int
    mean_patient_dice: Interval | None
    slice_mean_dice: Interval | None
    seen_patients: int
    mean_patient_dice_of_seen: Interval | None
    facts: ResultFacts

    def to_json(self) -> dict[str, Any]:
        """All of it at one level."""
        line = document(self)
        facts = line.pop("facts")
        return {**line, **facts.pop("model"), **facts}


@dataclass(frozen=True)
class NamedDifference:
    """Two runs by name, the metric that they differ in, and by how much."""

    first: str
    second: str
    of: str
    difference: PairedDifference

    def to_json(self) -> dict[str, Any]:
        """All of it at one level."""
        line = document(self)
        difference = line.pop("difference")
        return {**line, **difference}


@dataclass(frozen=True)
class SideBySide:
    """What `compare` writes; `timestamp` is ISO 8601 in UTC, `machine` and `versions` are where it ran."""

    timestamp: str
    machine: Mapping[str, Any]
    versions: Mapping[str, str]
    command: str
    metric: str
    runs: tuple[ComparedRun, ...]
    differences: tuple[NamedDifference, ...]

    def to_json(self) -> dict[str, Any]:
        """The content of compare.json, without its schema version."""
        return {
            "made": self.timestamp,
            "machine": dict(self.machine),
            "versions": dict(self.versions),
            "command": self.command,
            "metric": self.metric,
            "runs": [run.to_json() for run in self.runs],
            "differences": [difference.to_json() for difference in self.differences],
        }
