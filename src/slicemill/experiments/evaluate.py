"""What a score folder says of a model: its evaluation, and its comparison with another model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from slicemill.core.evaluation.rows import ScanScore
from slicemill.core.evaluation.seen import unseen_and_seen
from slicemill.core.evaluation.summary import (
    DiceSummary,
    PairedDifference,
    SliceSummary,
    dice_summary,
    paired_difference,
    patient_means,
    slice_summary,
)
from slicemill.errors import InputError
from slicemill.io import storage
from slicemill.io.scores.folder import refuse_leaky_scores
from slicemill.io.scores.tables import patient_rows, slice_rows
from slicemill.io.storage.uri import canonical, display
from slicemill.types import Floats, Uri


@dataclass(frozen=True)
class Evaluation:
    """Scores of patients that the model has not seen, and apart from them of those that it has.

    `seen_known` is False if the model's card does not name its patients: then nobody counts as seen.
    `slices` is a classifier's.
    """

    unseen: DiceSummary
    seen: DiceSummary | None
    seen_known: bool
    slices: SliceSummary | None = None


@dataclass(frozen=True)
class Comparison:
    """Patient Dice of two models over the scans and patients that both have scored and neither has seen."""

    other: str
    model_id: str
    scans: int
    difference: PairedDifference


def evaluate(home: Uri, rows: Sequence[ScanScore], threshold: float, *, classifier: bool) -> Evaluation:
    """Evaluation of scored scans; a classifier's slices are read for it."""
    unseen_rows, seen_rows = unseen_and_seen(rows)
    slices = slice_summary(slices_by_patient(home, unseen_rows), threshold) if classifier else None
    return Evaluation(
        unseen=dice_summary(unseen_rows),
        seen=dice_summary(seen_rows) if seen_rows else None,
        seen_known=all(row.seen is not None for row in rows),
        slices=slices,
    )


def compare(home: Uri, rows: Sequence[ScanScore], other: str) -> Comparison:
    """Patient Dice of `rows` minus that of the model that scored last into `other`, over common scans.

    `other` may be the same folder: then another model's rows there count. Patients that either model has
    seen are left out. Raises InputError if there are none, or if no scan has a Dice in both.
    """
    uri = canonical(other)
    refuse_leaky_scores(uri)
    ours = {row.model_id for row in rows}
    candidates = [row for row in patient_rows(uri) if uri != home or row.model_id not in ours]
    latest = max(
        candidates, key=lambda row: row.scored_at.timestamp() if row.scored_at else 0.0, default=None
    )
    theirs = {
        row.scan_id: row
        for row in candidates
        if latest and row.model_id == latest.model_id and row.dice is not None and not row.seen
    }
    common = [row for row in rows if row.scan_id in theirs and row.dice is not None and not row.seen]
    if not latest or not common:
        raise InputError(
            f"{display(uri)} can't be compared with",
            expected="scores with Dice of another model, of at least one of the same scans, seen by neither",
            found=f"{len(candidates)} scored scans, none of these with Dice",
            advice="Score the same scans with the other model first.",
        )
    first, second = patient_means(common), patient_means([theirs[row.scan_id] for row in common])
    return Comparison(display(uri), latest.model_id, len(common), paired_difference(first, second))


def slices_by_patient(home: Uri, rows: Sequence[ScanScore]) -> dict[str, Floats]:
    """Truth and probability of each labelled slice, by patient."""
    labelled = [row for row in rows if row.labelled_slices]
    tables = storage.each(
        lambda row: slice_rows(home, row, ("true_pixels", "max_probability")), labelled, home
    )
    pairs: dict[str, list[tuple[float, float]]] = {}
    for row, slices in zip(labelled, tables, strict=True):
        pairs.setdefault(row.patient_id, []).extend(
            (float(scored.true_pixels > 0), scored.max_probability)
            for scored in slices
            if scored.true_pixels is not None
        )
    return {patient: np.array(values, np.float64).reshape(-1, 2) for patient, values in pairs.items()}
