"""What a run records while it trains: an epoch's line, a search for the learning rate, why a rank failed."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

#: A record as JSON has it.
Json = Mapping[str, Any]

_PREFIX = "val_"


@dataclass(frozen=True)
class SegmentationMetrics:
    """The validation part, segmented; `dice` is None and `dice_by_scan` empty without one."""

    primary: ClassVar[tuple[str, ...]] = ("dice",)
    """What epochs are compared by; a later one where an earlier one is None."""
    dice: float | None = None
    """Mean over scans."""
    dice_by_scan: Mapping[str, float] = field(default_factory=dict)
    """Volumetric Dice at source resolution."""
    loss: float | None = None
    """What training minimises, without augmentation: its mean over slices. Earlier releases lack it."""


@dataclass(frozen=True)
class ClassificationMetrics:
    """The validation part's slices, classified; both are None without one."""

    primary: ClassVar[tuple[str, ...]] = ("auroc", "accuracy")
    """What epochs are compared by; a later one where an earlier one is None."""
    accuracy: float | None = None
    """Share of slices that are told right."""
    auroc: float | None = None
    """Area under the ROC curve; None where only one class occurs."""
    loss: float | None = None
    """What training minimises, without augmentation: its mean over slices. Earlier releases lack it."""


Metrics = SegmentationMetrics | ClassificationMetrics


def metric_values(metrics: Metrics) -> dict[str, Any]:
    """Metrics as they are stored: `dice` under `val_dice`; a loss that is not known is left out."""
    values = dataclasses.asdict(metrics)
    if values["loss"] is None:
        del values["loss"]
    return {f"{_PREFIX}{name}": value for name, value in values.items()}


@dataclass(frozen=True)
class EpochLine:
    """A line of metrics.jsonl. What has a default may be missing where an earlier release wrote it."""

    epoch: int
    """Counted from 1."""
    train_loss: float
    """Mean over steps and ranks."""
    validation: Metrics = field(default_factory=SegmentationMetrics)
    learning_rate: float | None = None
    """At the last step, of what is not an encoder with its own."""
    image_size: int = 0
    """Rows and columns of the network's input, in pixels; 0 where it is not known."""
    lost_steps: int = 0
    """Steps whose gradient was not finite."""
    slices: int = 0
    """Slices read, repeats counted."""
    slices_per_second: float | None = None
    """Of training, without validation."""
    seconds: float = 0.0
    """Of training, without validation."""

    @property
    def score(self) -> float:
        """The number by which an epoch is better than others of its size: the higher the better.

        Without a validation part that is the training loss, negated.
        """
        values = (getattr(self.validation, name) for name in self.validation.primary)
        return next((float(value) for value in values if value is not None), -self.train_loss)

    def to_json(self) -> dict[str, Any]:
        """The line as it is stored; `from_json` gives it back exactly."""
        fields = {name: value for name, value in vars(self).items() if name != "validation"}
        return fields | metric_values(self.validation)

    @classmethod
    def from_json(cls, value: Json) -> EpochLine:
        """The line that `to_json` gave; names that this release does not know are left out."""
        kinds = (ClassificationMetrics, SegmentationMetrics)
        kind = next(
            (kind for kind in kinds if any(_PREFIX + name in value for name in kind.primary)), kinds[1]
        )
        stored = {
            name.removeprefix(_PREFIX): entry for name, entry in value.items() if name.startswith(_PREFIX)
        }
        return cls(validation=kind(**_known(kind, stored)), **_known(cls, value))


def parse_epochs(text: str) -> tuple[EpochLine, ...]:
    """The lines of metrics.jsonl. Raises ValueError for text that is not one JSON object a line."""
    lines = [json.loads(line) for line in text.splitlines() if line.strip()]
    if not all(isinstance(line, dict) and {"epoch", "train_loss"} <= line.keys() for line in lines):
        raise ValueError("a line without epoch and train_loss")
    return tuple(map(EpochLine.from_json, lines))


def format_epochs(lines: Iterable[EpochLine]) -> str:
    """What `parse_epochs` reads."""
    return "".join(json.dumps(line.to_json(), sort_keys=True) + "\n" for line in lines)


@dataclass(frozen=True)
class RateSearch:
    """Learning rates that were tried, the smoothed loss at each, and the rate to take; None without any."""

    learning_rate: tuple[float, ...]
    loss: tuple[float, ...]
    suggested: float | None

    @classmethod
    def from_json(cls, value: Json) -> RateSearch:
        """The search whose fields were stored."""
        return cls(
            tuple(value.get("learning_rate", ())), tuple(value.get("loss", ())), value.get("suggested")
        )


@dataclass(frozen=True)
class RankFailure:
    """Why a rank stopped; the last four are those of a SlicemillError, None of any other."""

    kind: str
    """Name of the exception's class."""
    message: str
    rank: int
    problem: str | None = None
    expected: str | None = None
    found: str | None = None
    advice: str | None = None

    @classmethod
    def from_json(cls, value: Json) -> RankFailure:
        """The failure whose fields were stored."""
        return cls(**_known(cls, value))


def _known(kind: type[Any], value: Json) -> dict[str, Any]:
    names = {field.name for field in dataclasses.fields(kind)} - {"validation"}
    return {name: entry for name, entry in value.items() if name in names}
