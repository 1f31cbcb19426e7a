"""Folds of random slices instead of patients: the replaced systems' split, to measure what its leak is worth.

Networks, training and scoring are those of the honest cross-validation; only which slices they see differs. A
fold's model scores whole scans, and its scores count for the slices of its fold.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from slicemill.core.evaluation.dice import dice_from_counts, iou_from_counts
from slicemill.core.evaluation.rows import ScanScore, ScoredSlice
from slicemill.core.splits import leaky_folds, leaky_name
from slicemill.core.training.plan import LabelledFile, Share, TrainPlan
from slicemill.io import storage
from slicemill.io.lake.rows import ScanRow
from slicemill.io.lake.splits import Split
from slicemill.io.parquet import read_file
from slicemill.io.scores.tables import slice_rows
from slicemill.io.storage.uri import join
from slicemill.schemas import SLICES
from slicemill.types import Floats, Uri

_WARNING = (
    "Slices of one patient are in training, validation and test. Numbers from this split are no result."
)


@dataclass(frozen=True)
class LeakySplit:
    """Fold of each labelled slice, by scan id and slice index; those with tumour."""

    name: str
    folds: int
    seed: int
    fold_of: Mapping[tuple[str, int], int]
    tumour: frozenset[tuple[str, int]]

    @property
    def hash(self) -> str:
        """SHA-256 of the assignment."""
        lines = (f"{scan}\t{index}\t{fold}\n" for (scan, index), fold in sorted(self.fold_of.items()))
        return hashlib.sha256("".join(lines).encode()).hexdigest()

    def record(self) -> dict[str, Any]:
        """What is stored of the split, ready for JSON."""
        return {
            "name": self.name,
            "method": "leaky: by random slice",
            "warning": _WARNING,
            "folds": self.folds,
            "seed": self.seed,
            "slices": len(self.fold_of),
            "hash": self.hash,
        }

    def plan(self, plan: TrainPlan, fold: int) -> TrainPlan:
        """`plan`, of all scans on both sides, cut to this split's slices when `fold` is tested."""
        validating = (fold + 1) % self.folds
        training = set(range(self.folds)) - {fold, validating}
        return dataclasses.replace(
            plan,
            settings=dataclasses.replace(plan.settings, split=self.name),
            train=self._cut(plan.train, training),
            validation=self._cut(plan.validation, {validating}),
            split_hash=self.hash,
        )

    def _cut(self, shares: Iterable[Share], folds: Collection[int]) -> tuple[Share, ...]:
        cut = [tuple(self._file(file, folds) for file in share) for share in shares]
        return tuple(tuple(file for file in share if file.slices) for share in cut)

    def _file(self, file: LabelledFile, folds: Collection[int]) -> LabelledFile:
        samples = [
            (scan_id, index)
            for (scan_id, index), fold in self.fold_of.items()
            if scan_id == file.scan_id and fold in folds
        ]
        return dataclasses.replace(
            file,
            labelled_slices=len(samples),
            tumour_slices=len(self.tumour.intersection(samples)),
            slices=tuple(sorted(index for _, index in samples)),
        )


def leaky_split(home: Uri, split: Split, rows: Sequence[ScanRow], seed: int) -> LeakySplit:
    """As many folds as `split` has, of the labelled slices of `rows`, scans of the lake's scans table."""
    columns = ("slice_index", "mask_status", "tumour_pixels")
    tables = storage.each(
        lambda row: read_file(join(home, row.data_uri), SLICES, columns).to_pylist(), rows, home
    )
    labelled = {
        (row.scan_id, stored_slice["slice_index"]): stored_slice["tumour_pixels"] > 0
        for row, table in zip(rows, tables, strict=True)
        for stored_slice in table
        if stored_slice["mask_status"] == "present"
    }
    folds = split.folds or 0
    tumour = frozenset(sample for sample, has in labelled.items() if has)
    return LeakySplit(leaky_name(split.name), folds, seed, leaky_folds(labelled, folds, seed), tumour)


@dataclass(frozen=True)
class FoldSlice:
    """A scored slice of a fold, with the patient and the scan that it is of."""

    patient_id: str
    scan_id: str
    scored: ScoredSlice


def fold_slices(scores: Uri, rows: Iterable[ScanScore], split: LeakySplit, fold: int) -> list[FoldSlice]:
    """Scored slices of a fold; `scores` is the fold's score folder, `rows` those of its patients table."""
    columns = ("slice_index", "true_pixels", "tumour_pixels", "overlap_pixels", "dice", "max_probability")
    return [
        FoldSlice(row.patient_id, row.scan_id, scored)
        for row in rows
        for scored in slice_rows(scores, row, columns)
        if split.fold_of.get((row.scan_id, scored.slice_index)) == fold
    ]


def scan_rows(slices: Iterable[FoldSlice]) -> list[ScanScore]:
    """Scored slices put together by scan, as rows of the patients table; no surface distance."""
    by_scan: dict[str, list[FoldSlice]] = {}
    for of_fold in slices:
        by_scan.setdefault(of_fold.scan_id, []).append(of_fold)
    return [_scan_row(of_scan) for _, of_scan in sorted(by_scan.items())]


def _scan_row(slices: Sequence[FoldSlice]) -> ScanScore:
    scores = [of_fold.scored for of_fold in slices]
    true_pixels = sum(score.true_pixels or 0 for score in scores)
    row = ScanScore(
        slices[0].patient_id,
        slices[0].scan_id,
        true_volume=true_pixels,
        slices=len(scores),
        labelled_slices=len(scores),
    )
    if any(score.dice is None or score.overlap_pixels is None for score in scores):
        return row
    predicted = sum(score.tumour_pixels or 0 for score in scores)
    overlap = sum(score.overlap_pixels or 0 for score in scores)
    return dataclasses.replace(
        row,
        dice=dice_from_counts(overlap, predicted, true_pixels),
        iou=iou_from_counts(overlap, predicted, true_pixels),
        slice_mean_dice=float(np.mean([score.dice for score in scores if score.dice is not None])),
        predicted_volume=predicted,
    )


def truth_and_probability(slices: Iterable[FoldSlice]) -> dict[str, Floats]:
    """What `slice_summary` takes, by patient."""
    pairs: dict[str, list[tuple[float, float]]] = {}
    for of_fold in slices:
        pair = (float((of_fold.scored.true_pixels or 0) > 0), of_fold.scored.max_probability)
        pairs.setdefault(of_fold.patient_id, []).append(pair)
    return {patient: np.array(of_patient, np.float64) for patient, of_patient in pairs.items()}
