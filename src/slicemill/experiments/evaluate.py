"""What a score folder says of a model: its summary, and its comparison with another model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from slicemill.core.evaluation.summary import dice_summary, paired_difference, patient_means, slice_summary
from slicemill.errors import InputError
from slicemill.io import storage
from slicemill.io.scores.tables import Row, patient_rows, refuse_leaky_scores, slice_rows
from slicemill.io.storage.uri import canonical, display
from slicemill.types import Floats, Uri


def evaluate(home: Uri, rows: Sequence[Row], threshold: float, *, classifier: bool) -> dict[str, Any]:
    """Summary of scored scans, rows of the patients table; a classifier's slices are read for it."""
    found = dice_summary(rows)
    return found | slice_summary(slices_by_patient(home, rows), threshold) if classifier else found


def compare(home: Uri, rows: Sequence[Row], other: str) -> dict[str, Any]:
    """Patient Dice of `rows` minus that of the model that scored last into `other`, over common scans.

    `other` may be the same folder: then another model's rows there count. Raises InputError if there are
    none, or if no scan has a Dice in both.
    """
    uri = canonical(other)
    refuse_leaky_scores(uri)
    ours = {row["model_id"] for row in rows}
    there = [row for row in patient_rows(uri) if uri != home or row["model_id"] not in ours]
    latest = max(there, key=lambda row: row["scored_at"], default=None)
    theirs = {
        row["scan_id"]: row
        for row in there
        if latest and row["model_id"] == latest["model_id"] and row["dice"] is not None
    }
    common = [row for row in rows if row["scan_id"] in theirs and row["dice"] is not None]
    if not latest or not common:
        raise InputError(
            f"{display(uri)} can't be compared with",
            expected="scores with Dice of another model, of at least one of the same scans",
            found=f"{len(there)} scored scans, none of these with Dice",
            advice="Score the same scans with the other model first.",
        )
    first, second = patient_means(common), patient_means([theirs[row["scan_id"]] for row in common])
    return {
        "with": display(uri),
        "model_id": latest["model_id"],
        "scans": len(common),
        **paired_difference(first, second),
    }


def slices_by_patient(home: Uri, rows: Sequence[Row]) -> dict[str, Floats]:
    """Truth and probability of each labelled slice, by patient."""
    labelled = [row for row in rows if row["labelled_slices"]]
    read = storage.each(lambda row: slice_rows(home, row, ("true_pixels", "max_probability")), labelled, home)
    found: dict[str, list[tuple[float, float]]] = {}
    for row, slices in zip(labelled, read, strict=True):
        found.setdefault(row["patient_id"], []).extend(
            (float(one["true_pixels"] > 0), one["max_probability"])
            for one in slices
            if one["true_pixels"] is not None
        )
    return {patient: np.array(values, np.float64).reshape(-1, 2) for patient, values in found.items()}
