"""What scores say of a model: patient means with intervals, and two models compared patient by patient."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from slicemill.core.evaluation.intervals import Interval, grouped_interval, mean_interval, median_interval
from slicemill.core.evaluation.roc import roc_curve
from slicemill.core.evaluation.rows import ScanScore
from slicemill.types import Floats

#: Scans that a summary names at either end.
NAMED = 5

#: Random sign changes of a permutation test.
_PERMUTATIONS = 20_000

#: Numbers of a scan that patients are compared by.
Metric = Literal["dice", "slice_mean_dice", "iou", "hd95"]


@dataclass(frozen=True)
class NamedDice:
    """A scan and its Dice."""

    scan_id: str
    dice: float


@dataclass(frozen=True)
class SurfaceSummary:
    """Median HD95 over patients, and how much of the truth it is of.

    The distance needs a predicted and a true tumour: a tumour that was missed altogether has none, and a
    median of the others alone flatters. `measured` of `patients` with a true or a predicted tumour have one.
    The unit is "mm" where scans have a spacing, and the median is of those; else "px".
    """

    median: Interval | None
    measured: int
    patients: int
    unit: str


@dataclass(frozen=True)
class DiceSummary:
    """Patient Dice of scored scans.

    Intervals are 95 % percentile bootstrap intervals over patients; None without truth. Best and worst name
    scans. `partly_labelled_scans` have truth for some of their slices only, and their Dice is of these.
    """

    scans: int
    scans_with_truth: int
    patients_with_truth: int
    partly_labelled_scans: int
    mean_patient_dice: Interval | None
    median_patient_dice: Interval | None
    hd95: SurfaceSummary
    best: tuple[NamedDice, ...]
    worst: tuple[NamedDice, ...]


@dataclass(frozen=True)
class SliceSummary:
    """How well a classifier tells slices with tumour from those without; None where that is not known."""

    slices_with_truth: int
    slice_accuracy: Interval | None
    slice_auroc: Interval | None


@dataclass(frozen=True)
class PairedDifference:
    """First minus second over the patients that both have; see `paired_difference`."""

    patients: int
    mean_difference: Interval
    p_value: float
    first_better: int
    second_better: int


def patient_interval(rows: Sequence[ScanScore], metric: Metric) -> Interval | None:
    """Mean over patients with its 95 % bootstrap interval; None where no row has a value."""
    means = list(patient_means(rows, metric).values())
    return mean_interval(means) if means else None


def patient_means(rows: Sequence[ScanScore], metric: Metric = "dice") -> dict[str, float]:
    """Mean over a patient's scans, by patient; patients without a value are left out."""
    values: dict[str, list[float]] = {}
    for row in rows:
        value = getattr(row, metric)
        if value is not None:
            values.setdefault(row.patient_id, []).append(value)
    return {patient: float(np.mean(of_scans)) for patient, of_scans in values.items()}


def dice_summary(rows: Sequence[ScanScore]) -> DiceSummary:
    """Patient Dice of scored scans."""
    dice = patient_means(rows)
    ranked = sorted(
        (NamedDice(row.scan_id, row.dice) for row in rows if row.dice is not None),
        key=lambda entry: (entry.dice, entry.scan_id),
    )
    return DiceSummary(
        scans=len(rows),
        scans_with_truth=len(ranked),
        patients_with_truth=len(dice),
        partly_labelled_scans=sum(partly_labelled(row) for row in rows),
        mean_patient_dice=patient_interval(rows, "dice"),
        median_patient_dice=median_interval(list(dice.values())) if dice else None,
        hd95=surface_summary(rows),
        best=tuple(reversed(ranked[-NAMED:])),
        worst=tuple(ranked[:NAMED]),
    )


def partly_labelled(row: ScanScore) -> bool:
    """Whether only some of a scan's slices have a truth, so that its Dice is of these alone."""
    return 0 < row.labelled_slices < row.slices


def surface_summary(rows: Sequence[ScanScore]) -> SurfaceSummary:
    """Median HD95 of the patients that have one, out of those with a true or a predicted tumour."""
    in_millimetres = [row for row in rows if row.spacing is not None]
    distances = list(patient_means(in_millimetres or rows, "hd95").values())
    # Without a tumour in truth and prediction Dice is 1 and there is nothing to measure.
    patients = {
        row.patient_id for row in rows if row.dice is not None and (row.dice < 1 or row.hd95 is not None)
    }
    return SurfaceSummary(
        median_interval(distances) if distances else None,
        len(distances),
        len(patients),
        "mm" if in_millimetres else "px",
    )


def slice_summary(slices: Mapping[str, Floats], threshold: float) -> SliceSummary:
    """How well a classifier tells slices with tumour from those without.

    `slices`: by patient, float64 with axes (N, 2), columns truth (0 or 1) and probability. Intervals resample
    patients, since slices of one are alike. The area under the ROC curve is None if one class is missing.
    """
    groups = [group for _, group in sorted(slices.items()) if len(group)]
    if not groups:
        return SliceSummary(0, None, None)
    pooled = np.concatenate(groups)

    def accuracy(rows: Floats) -> float:
        return _accuracy(rows, threshold)

    two_classes = 0 < pooled[:, 0].sum() < len(pooled)
    return SliceSummary(
        slices_with_truth=len(pooled),
        slice_accuracy=grouped_interval(groups, accuracy),
        slice_auroc=grouped_interval(groups, _area) if two_classes else None,
    )


def patient_accuracy(slices: Mapping[str, Floats], threshold: float) -> dict[str, float]:
    """Share of a patient's labelled slices that are classified right, by patient; see `slice_summary`."""
    return {patient: _accuracy(rows, threshold) for patient, rows in sorted(slices.items()) if len(rows)}


def paired_difference(
    first: Mapping[str, float], second: Mapping[str, float], seed: int = 0
) -> PairedDifference:
    """First minus second, over the patients that both have.

    Mean difference with its 95 % bootstrap interval over patients, and the two-sided p of the sign-flip
    permutation test (R. A. Fisher, The Design of Experiments, 1935): how often a difference as large arises
    if, for each patient, either model could have been the better one. Raises ValueError without a common
    patient.
    """
    common = sorted(first.keys() & second.keys())
    differences = np.array([first[patient] - second[patient] for patient in common])
    mean = mean_interval(differences, seed=seed)
    signs = np.random.default_rng(seed).choice((-1.0, 1.0), (_PERMUTATIONS, len(common)))
    # As large as observed, rounding aside.
    extreme = np.count_nonzero(np.abs(signs @ differences) >= abs(differences.sum()) * (1 - 1e-12))
    return PairedDifference(
        patients=len(common),
        mean_difference=mean,
        p_value=(1 + int(extreme)) / (1 + _PERMUTATIONS),
        first_better=int(np.count_nonzero(differences > 0)),
        second_better=int(np.count_nonzero(differences < 0)),
    )


def _accuracy(rows: Floats, threshold: float) -> float:
    return float(np.mean((rows[:, 1] >= threshold) == (rows[:, 0] > 0)))


def _area(rows: Floats) -> float:
    positive = rows[:, 0] > 0
    return roc_curve(positive, rows[:, 1])[2] if 0 < np.count_nonzero(positive) < len(rows) else np.nan
