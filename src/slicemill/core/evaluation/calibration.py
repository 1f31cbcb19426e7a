"""Do probabilities hold? Reliability over voxels, and a threshold that is tried on other patients."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from slicemill.core.evaluation.confidence import BINS, ProbabilityCounts
from slicemill.core.evaluation.rows import ScanScore
from slicemill.core.evaluation.summary import PairedDifference, paired_difference

#: The bin that begins at a threshold of one half.
HALF = BINS // 2


@dataclass(frozen=True)
class ReliabilityBin:
    """Voxels whose probability lies from `low` to `high`, and those of them that are tumour."""

    low: float
    high: float
    voxels: int
    tumour: int

    @property
    def share(self) -> float:
        """Share of tumour among the voxels; nan of an empty bin."""
        return self.tumour / self.voxels if self.voxels else float("nan")


@dataclass(frozen=True)
class Calibration:
    """Reliability of scans together, by twentieths of probability.

    `error`: the expected calibration error, the mean distance of a bin's middle from its share of tumour,
    weighted by voxels. The lowest bin, nearly all of the head, is left out: it would hide the others. Source:
    M. Naeini and others, AAAI (2015).
    """

    scans: int
    bins: tuple[ReliabilityBin, ...]
    error: float | None


@dataclass(frozen=True)
class FoldThreshold:
    """A fold, the threshold that is best on the others, and the fold's mean patient Dice by it and by 0.5."""

    fold: int
    threshold: float
    dice: float
    dice_at_half: float


@dataclass(frozen=True)
class ThresholdChoice:
    """What a threshold chosen out of fold is worth: by fold, and over patients against a threshold of 0.5.

    Dice is that of the plain masks, before any clean-up. `threshold` is the best one over all folds: what a
    new model of the kind would take.
    """

    threshold: float
    folds: tuple[FoldThreshold, ...]
    difference: PairedDifference


def counts_of(row: ScanScore) -> ProbabilityCounts | None:
    """A row's counts by probability; None of a classifier, without truth, or from an earlier release."""
    if not row.voxels_by_probability or not row.tumour_by_probability:
        return None
    return ProbabilityCounts(row.voxels_by_probability, row.tumour_by_probability)


def calibration(rows: Sequence[ScanScore]) -> Calibration | None:
    """Reliability over all labelled voxels of scans; None if no row has counts."""
    counts = [counts for row in rows if (counts := counts_of(row))]
    if not counts:
        return None
    voxels = np.sum([of_scan.voxels for of_scan in counts], axis=0)
    tumour = np.sum([of_scan.tumour for of_scan in counts], axis=0)
    bins = tuple(
        ReliabilityBin(place / BINS, (place + 1) / BINS, int(voxels[place]), int(tumour[place]))
        for place in range(BINS)
    )
    probable = [each for each in bins[1:] if each.voxels]
    gaps = [abs((each.low + each.high) / 2 - each.share) for each in probable]
    error = float(np.average(gaps, weights=[each.voxels for each in probable])) if probable else None
    return Calibration(len(counts), bins, error)


def threshold_choice(folds: Mapping[int, Sequence[ScanScore]]) -> ThresholdChoice | None:
    """For each fold the threshold of highest mean patient Dice over the others, tried on the fold itself.

    None of fewer than two folds with counts.
    """
    curves = {fold: curves for fold, rows in sorted(folds.items()) if (curves := _dice_curves(rows))}
    if len(curves) < 2:
        return None
    by_choice: dict[str, float] = {}
    half: dict[str, float] = {}
    results = []
    for fold, of_fold in curves.items():
        other_folds = [
            curve for other, by_patient in curves.items() if other != fold for curve in by_patient.values()
        ]
        edge = _best_edge(other_folds)
        by_choice |= {patient: float(curve[edge]) for patient, curve in of_fold.items()}
        half |= {patient: float(curve[HALF]) for patient, curve in of_fold.items()}
        own = np.mean(list(of_fold.values()), axis=0)
        results.append(FoldThreshold(fold, edge / BINS, float(own[edge]), float(own[HALF])))
    everyone = [curve for by_patient in curves.values() for curve in by_patient.values()]
    return ThresholdChoice(_best_edge(everyone) / BINS, tuple(results), paired_difference(by_choice, half))


def _dice_curves(rows: Sequence[ScanScore]) -> dict[str, np.ndarray]:
    """By patient: mean over the patient's scans of Dice at each edge of a bin, axes (BINS,)."""
    scans: dict[str, list[list[float]]] = {}
    for row in rows:
        if counts := counts_of(row):
            scans.setdefault(row.patient_id, []).append([counts.dice_at(edge) for edge in range(BINS)])
    return {patient: np.mean(curves, axis=0) for patient, curves in scans.items()}


def _best_edge(curves: Sequence[np.ndarray]) -> int:
    """The edge of highest mean Dice; of equals the one nearest to one half."""
    mean = np.mean(curves, axis=0)
    best = np.flatnonzero(mean[1:] >= mean[1:].max() - 1e-12) + 1
    return int(best[np.abs(best - HALF).argmin()])
