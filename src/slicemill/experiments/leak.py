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
from slicemill.core.splits import leaky_folds, leaky_name
from slicemill.core.training.plan import LabelledFile, Share, TrainPlan
from slicemill.io import storage
from slicemill.io.lake.splits import Split
from slicemill.io.parquet import read_file
from slicemill.io.scores.tables import Row, slice_rows
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
        chosen = [one for one, fold in self.fold_of.items() if one[0] == file.scan_id and fold in folds]
        return dataclasses.replace(
            file,
            labelled_slices=len(chosen),
            tumour_slices=len(self.tumour.intersection(chosen)),
            slices=tuple(sorted(index for _, index in chosen)),
        )


def leaky_split(home: Uri, split: Split, rows: Sequence[Mapping[str, Any]], seed: int) -> LeakySplit:
    """As many folds as `split` has, of the labelled slices of `rows`, scans of the lake's scans table."""
    columns = ("slice_index", "mask_status", "tumour_pixels")
    tables = storage.each(
        lambda row: read_file(join(home, row["data_uri"]), SLICES, columns).to_pylist(), rows, home
    )
    labelled = {
        (row["scan_id"], one["slice_index"]): one["tumour_pixels"] > 0
        for row, table in zip(rows, tables, strict=True)
        for one in table
        if one["mask_status"] == "present"
    }
    folds = split.folds or 0
    tumour = frozenset(one for one, has in labelled.items() if has)
    return LeakySplit(leaky_name(split.name), folds, seed, leaky_folds(labelled, folds, seed), tumour)


def fold_slices(scores: Uri, rows: Iterable[Row], split: LeakySplit, fold: int) -> list[Row]:
    """Scored slices of a fold: rows of the slices table, with the scan's own columns."""
    columns = ("slice_index", "true_pixels", "tumour_pixels", "dice", "max_probability")
    return [
        {**one, "patient_id": row["patient_id"], "scan_id": row["scan_id"]}
        for row in rows
        for one in slice_rows(scores, row, columns)
        if split.fold_of.get((row["scan_id"], one["slice_index"])) == fold
    ]


def scan_rows(slices: Iterable[Row]) -> list[Row]:
    """Scored slices put together by scan, as rows of the patients table; no surface distance."""
    by_scan: dict[str, list[Row]] = {}
    for one in slices:
        by_scan.setdefault(one["scan_id"], []).append(one)
    return [_scan_row(found) for _, found in sorted(by_scan.items())]


def _scan_row(slices: Sequence[Row]) -> Row:
    row: Row = {name: slices[0][name] for name in ("patient_id", "scan_id")}
    row |= dict.fromkeys(("dice", "iou", "slice_mean_dice", "hd95", "predicted_volume", "model_id"))
    row |= {"true_volume": sum(one["true_pixels"] for one in slices), "labelled_slices": len(slices)}
    if slices[0]["dice"] is None:
        return row
    predicted = sum(one["tumour_pixels"] for one in slices)
    # Dice is 2 I / (P + T), so the pixels in both follow.
    both = sum(round(one["dice"] * (one["tumour_pixels"] + one["true_pixels"]) / 2) for one in slices)
    return row | {
        "dice": dice_from_counts(both, predicted, row["true_volume"]),
        "iou": iou_from_counts(both, predicted, row["true_volume"]),
        "slice_mean_dice": float(np.mean([one["dice"] for one in slices])),
        "predicted_volume": predicted,
    }


def truth_and_probability(slices: Iterable[Row]) -> dict[str, Floats]:
    """What `slice_summary` takes, by patient."""
    found: dict[str, list[tuple[float, float]]] = {}
    for one in slices:
        pair = (float(one["true_pixels"] > 0), one["max_probability"])
        found.setdefault(one["patient_id"], []).append(pair)
    return {patient: np.array(pairs, np.float64) for patient, pairs in found.items()}
