"""How well shape tells a clinical column apart, as `associate --target` stores and draws it."""

from __future__ import annotations

from dataclasses import dataclass

from slicemill.core.evaluation.intervals import Interval


@dataclass(frozen=True)
class ClassCount:
    """A value of the column, and the patients that have it."""

    name: str
    patients: int


@dataclass(frozen=True)
class TargetResult:
    """A clinical column predicted from shape, each patient by a model that was fitted on others."""

    column: str
    patients: int
    missing: int
    """Patients with features whose column is empty, or whose class is too small to be in every fold."""
    classes: tuple[ClassCount, ...]
    folds: int
    auroc: Interval
    """Mean over classes of the area under the ROC curve, one class against the rest; 0.5 is chance. The 95 %
    interval resamples patients."""
    accuracy: float
    majority: float
    """Accuracy of always naming the largest class."""
    permutations: int
    permuted_auroc: float
    """Mean of the same area after the labels were dealt out at random: what chance gives here."""
    p_value: float
    """How often labels at random do as well, the labels as they are counted among them."""


@dataclass(frozen=True)
class TargetRefusal:
    """A column that was not predicted, and why."""

    column: str
    reason: str


#: What became of a column.
Target = TargetResult | TargetRefusal
