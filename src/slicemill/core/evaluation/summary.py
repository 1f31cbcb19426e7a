"""What scores say of a model: patient means with intervals, and two models compared patient by patient."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from slicemill.core.evaluation.intervals import grouped_interval, mean_interval, median_interval
from slicemill.core.evaluation.roc import roc_curve
from slicemill.types import Floats

#: Scans that a summary names at either end.
NAMED = 5

#: Random sign changes of a permutation test.
_PERMUTATIONS = 20_000

Row = Mapping[str, Any]


def patient_interval(rows: Sequence[Row], key: str) -> dict[str, float] | None:
    """Mean over patients with its 95 % bootstrap interval, ready for JSON; None where no row has a value."""
    means = list(patient_means(rows, key).values())
    return _interval(mean_interval(means)) if means else None


def patient_means(rows: Sequence[Row], key: str = "dice") -> dict[str, float]:
    """Mean over a patient's scans, by patient; patients without a value are left out."""
    values: dict[str, list[float]] = {}
    for row in rows:
        if row[key] is not None:
            values.setdefault(row["patient_id"], []).append(row[key])
    return {patient: float(np.mean(found)) for patient, found in values.items()}


def dice_summary(rows: Sequence[Row]) -> dict[str, Any]:
    """Patient Dice of scored scans (rows of the patients table), ready for JSON.

    Intervals are 95 % percentile bootstrap intervals over patients, null without truth; best and worst name
    scans.
    """
    dice = patient_means(rows)
    ranked = sorted((row for row in rows if row["dice"] is not None), key=_rank)
    return {
        "scans": len(rows),
        "scans_with_truth": len(ranked),
        "patients_with_truth": len(dice),
        "mean_patient_dice": patient_interval(rows, "dice"),
        "median_patient_dice": _interval(median_interval(list(dice.values()))) if dice else None,
        "best": [_named(row) for row in reversed(ranked[-NAMED:])],
        "worst": [_named(row) for row in ranked[:NAMED]],
    }


def slice_summary(slices: Mapping[str, Floats], threshold: float) -> dict[str, Any]:
    """How well a classifier tells slices with tumour from those without, ready for JSON.

    `slices`: by patient, float64 with axes (N, 2), columns truth (0 or 1) and probability. Intervals resample
    patients, since slices of one are alike. The area under the ROC curve is null if one class is missing.
    """
    groups = [group for _, group in sorted(slices.items()) if len(group)]
    if not groups:
        return {"slices_with_truth": 0, "slice_accuracy": None, "slice_auroc": None}
    pooled = np.concatenate(groups)

    def accuracy(rows: Floats) -> float:
        return _accuracy(rows, threshold)

    both = 0 < pooled[:, 0].sum() < len(pooled)
    return {
        "slices_with_truth": len(pooled),
        "slice_accuracy": _interval(grouped_interval(groups, accuracy)),
        "slice_auroc": _interval(grouped_interval(groups, _area)) if both else None,
    }


def patient_accuracy(slices: Mapping[str, Floats], threshold: float) -> dict[str, float]:
    """Share of a patient's labelled slices that are told right, by patient; `slices` as `slice_summary`."""
    return {patient: _accuracy(rows, threshold) for patient, rows in sorted(slices.items()) if len(rows)}


def paired_difference(
    first: Mapping[str, float], second: Mapping[str, float], seed: int = 0
) -> dict[str, Any]:
    """First minus second, over the patients that both have, ready for JSON.

    Mean difference with its 95 % bootstrap interval over patients, and the two-sided p of the sign-flip
    permutation test (R. A. Fisher, The Design of Experiments, 1935): how often a difference as large arises
    if, for each patient, either model could have been the better one. Raises ValueError without a common
    patient.
    """
    common = sorted(first.keys() & second.keys())
    differences = np.array([first[patient] - second[patient] for patient in common])
    mean, low, high = mean_interval(differences, seed=seed)
    signs = np.random.default_rng(seed).choice((-1.0, 1.0), (_PERMUTATIONS, len(common)))
    # As large as found, rounding aside.
    extreme = np.count_nonzero(np.abs(signs @ differences) >= abs(differences.sum()) * (1 - 1e-12))
    return {
        "patients": len(common),
        "mean_difference": {"value": mean, "low": low, "high": high},
        "p_value": (1 + int(extreme)) / (1 + _PERMUTATIONS),
        "first_better": int(np.count_nonzero(differences > 0)),
        "second_better": int(np.count_nonzero(differences < 0)),
    }


def _accuracy(rows: Floats, threshold: float) -> float:
    return float(np.mean((rows[:, 1] >= threshold) == (rows[:, 0] > 0)))


def _area(rows: Floats) -> float:
    positive = rows[:, 0] > 0
    return roc_curve(positive, rows[:, 1])[2] if 0 < np.count_nonzero(positive) < len(rows) else np.nan


def _interval(found: tuple[float, float, float]) -> dict[str, float]:
    return dict(zip(("value", "low", "high"), found, strict=True))


def _rank(row: Row) -> tuple[float, str]:
    return row["dice"], row["scan_id"]


def _named(row: Row) -> dict[str, Any]:
    return {"scan_id": row["scan_id"], "dice": row["dice"]}
