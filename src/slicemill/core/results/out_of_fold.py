"""Scores of all folds together: the worst scans with why, calibration, and what triage is worth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from slicemill.core.evaluation.calibration import (
    Calibration,
    ThresholdChoice,
    calibration,
    threshold_choice,
)
from slicemill.core.evaluation.mistakes import Kind, main_mistake
from slicemill.core.evaluation.rows import ScanScore
from slicemill.core.evaluation.summary import DiceSummary, dice_summary
from slicemill.core.evaluation.triage import TriageWorth, triage_worth

#: Scans of the table of the worst.
WORST = 20


@dataclass(frozen=True)
class WorstScan:
    """A scan of low Dice: its volumes, its wrong voxels by kind, and the kind that most of them are of."""

    scan_id: str
    patient_id: str
    fold: int | None
    institution: str
    dice: float
    expected_dice: float | None
    true_volume: int
    predicted_volume: int
    missed_voxels: int | None
    false_voxels: int | None
    border_voxels: int | None
    why: Kind | None
    """None of scores of an earlier release, which did not count wrong voxels by kind."""
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class FoldDice:
    """A fold: its model, and patient Dice of the scans that this model never saw."""

    fold: int
    model_id: str
    dice: DiceSummary


@dataclass(frozen=True)
class OutOfFold:
    """Scores of all folds together, each scan's by the one model that never saw its patient.

    Calibration, threshold and triage are None where the scores hold no counts by probability or no truth.
    """

    dice: DiceSummary
    folds: tuple[FoldDice, ...]
    worst: tuple[WorstScan, ...]
    calibration: Calibration | None
    threshold: ThresholdChoice | None
    triage: TriageWorth | None


def out_of_fold(
    folds: Mapping[int, Sequence[ScanScore]], institutions: Mapping[str, str | None]
) -> OutOfFold:
    """What the folds' rows of the patients table say together; `institutions` by scan id."""
    rows = [row for _, of_fold in sorted(folds.items()) for row in of_fold]
    fold_of = {row.scan_id: fold for fold, of_fold in folds.items() for row in of_fold}
    return OutOfFold(
        dice=dice_summary(rows),
        folds=tuple(
            FoldDice(fold, of_fold[0].model_id if of_fold else "", dice_summary(of_fold))
            for fold, of_fold in sorted(folds.items())
        ),
        worst=worst_scans(rows, fold_of, institutions),
        calibration=calibration(rows),
        threshold=threshold_choice(folds),
        triage=triage_worth(rows),
    )


def worst_scans(
    rows: Sequence[ScanScore],
    fold_of: Mapping[str, int],
    institutions: Mapping[str, str | None],
    count: int = WORST,
) -> tuple[WorstScan, ...]:
    """The scans of lowest Dice, the lowest first, of equals by scan id."""
    judged = sorted((row for row in rows if row.dice is not None), key=lambda row: (row.dice, row.scan_id))
    return tuple(
        WorstScan(
            scan_id=row.scan_id,
            patient_id=row.patient_id,
            fold=fold_of.get(row.scan_id),
            institution=institutions.get(row.scan_id) or "unknown",
            dice=row.dice or 0.0,
            expected_dice=row.expected_dice,
            true_volume=row.true_volume or 0,
            predicted_volume=row.predicted_volume or 0,
            missed_voxels=row.missed_voxels,
            false_voxels=row.false_voxels,
            border_voxels=row.border_voxels,
            why=why(row),
            warnings=row.warnings,
        )
        for row in judged[:count]
    )


def why(row: ScanScore) -> Kind | None:
    """The kind that most of a scan's wrong voxels are of; None where they were not counted."""
    if row.missed_voxels is None or row.false_voxels is None or row.border_voxels is None:
        return None
    return main_mistake(row.missed_voxels, row.false_voxels, row.border_voxels)
