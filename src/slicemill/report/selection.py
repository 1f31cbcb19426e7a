"""Which scans and slices a page shows, by rules that it states and that do not grow with the data."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from slicemill.io import storage
from slicemill.io.scores.tables import slice_rows
from slicemill.report.inputs import Inputs, Row
from slicemill.types import Floats

#: Scans of each kind (worst, middle, best) that are shown with outlines.
EXAMPLES = 4
#: Scans whose slices are compared one by one: all, or this many.
MAX_SLICE_SCANS = 400
#: Slices of each kind (false alarm, missed tumour) that are shown, and how many of them may be of one scan.
WORST_SLICES, OF_ONE_SCAN = 10, 2

_SLICE_COLUMNS = ("slice_index", "tumour_pixels", "true_pixels", "max_probability", "dice")


@dataclass(frozen=True)
class SliceScore:
    """One scored slice; areas in pixels.

    `predicted` is None from a classifier, `true` without truth. `found` says that a tumour was predicted: the
    mask is not empty, or a classifier's probability reaches its threshold.
    """

    patient_id: str
    scan_id: str
    slice_index: int
    predicted: int | None
    true: int | None
    max_probability: float
    dice: float | None
    found: bool


def by_dice(rows: Sequence[Row]) -> list[Row]:
    """Rows with a Dice, the lowest first; of equals by scan id."""
    return sorted(
        (row for row in rows if row["dice"] is not None), key=lambda row: (row["dice"], row["scan_id"])
    )


def _largest_first(row: Row) -> tuple[int, str]:
    # A classifier predicts no volume.
    return -(row["predicted_volume"] or 0), row["scan_id"]


def examples(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """The worst, middle and best scans by Dice, none twice; without truth, the largest predictions.

    None of a classifier, which gives a scan no number.
    """
    ranked = by_dice(rows)
    if is_classifier(rows):
        return {}
    if not ranked:
        largest = sorted(rows, key=_largest_first)
        return {"Largest predictions": list(largest[: 3 * EXAMPLES])}
    if len(ranked) <= 3 * EXAMPLES:
        return {"All scans, worst first": ranked}
    start = (len(ranked) - EXAMPLES) // 2
    return {
        "Worst": ranked[:EXAMPLES],
        "Middle": ranked[start : start + EXAMPLES],
        "Best": ranked[-EXAMPLES:],
    }


def pages(rows: Sequence[Row], everything: Sequence[Row], asked: Sequence[str]) -> list[Row]:
    """Scans that get a page: those asked for of `everything`, then the three worst and two best of `rows`.

    Of a classifier, the first five.
    """
    by_id = {row["scan_id"]: row for row in everything}
    ranked = by_dice(rows) or sorted(rows, key=_largest_first)
    ends = ranked[:5] if is_classifier(rows) else ranked[:3] + ranked[-2:]
    wanted = [by_id[scan_id] for scan_id in asked if scan_id in by_id] + ends
    return list({row["scan_id"]: row for row in wanted}.values())


def compared_scans(rows: Sequence[Row]) -> list[Row]:
    """Scans whose slices are read: all up to `MAX_SLICE_SCANS`.

    Of more, half are the ones of lowest Dice, half those with most voxels predicted beyond the truth.
    """
    if len(rows) <= MAX_SLICE_SCANS:
        return list(rows)
    half = MAX_SLICE_SCANS // 2
    excess = sorted(
        rows, key=lambda row: ((row["true_volume"] or 0) - (row["predicted_volume"] or 0), row["scan_id"])
    )
    chosen = {row["scan_id"]: row for row in [*by_dice(rows)[:half], *excess[:half]]}
    return list(chosen.values())


def is_classifier(rows: Sequence[Row]) -> bool:
    """Whether these scans were scored by a classifier, which draws no masks."""
    return any(row["slices"] for row in rows) and all(
        row["predicted_volume"] is None for row in rows if row["slices"]
    )


def read_slices(inputs: Inputs, rows: Sequence[Row]) -> list[SliceScore]:
    """The scored slices of scans."""
    if inputs.scores is None:
        return []
    home = inputs.scores.home

    def read(row: Row) -> list[SliceScore]:
        return [_slice_score(row, stored) for stored in slice_rows(home, row, _SLICE_COLUMNS)]

    return [one for slices in storage.each(read, rows, home) for one in slices]


def _slice_score(row: Row, stored: Row) -> SliceScore:
    predicted, probability = stored["tumour_pixels"], stored["max_probability"]
    return SliceScore(
        patient_id=row["patient_id"],
        scan_id=row["scan_id"],
        slice_index=stored["slice_index"],
        predicted=predicted,
        true=stored["true_pixels"],
        max_probability=probability,
        dice=stored["dice"],
        found=probability >= row["threshold"] if predicted is None else predicted > 0,
    )


def false_alarms(slices: Sequence[SliceScore]) -> list[SliceScore]:
    """Slices without tumour on which one was predicted, the largest (or a classifier's surest) first."""
    wrong = [one for one in slices if one.true == 0 and one.found]
    return _spread(
        sorted(
            wrong,
            key=lambda one: (-(one.predicted or 0), -one.max_probability, one.scan_id, one.slice_index),
        )
    )


def worst_with_tumour(slices: Sequence[SliceScore]) -> list[SliceScore]:
    """Slices with tumour of lowest Dice, of equals the largest tumour first.

    Of a classifier: those that it missed, of lowest probability first.
    """
    there = [one for one in slices if one.true and (one.dice is not None or not one.found)]
    return _spread(sorted(there, key=_badness))


def _badness(one: SliceScore) -> tuple[float, int, str, int]:
    fault = one.dice if one.dice is not None else one.max_probability
    return fault, -(one.true or 0), one.scan_id, one.slice_index


def _spread(ranked: Sequence[SliceScore]) -> list[SliceScore]:
    """The first of a ranking, so that no scan fills it alone."""
    taken: Counter[str] = Counter()
    kept = []
    for one in ranked:
        taken[one.scan_id] += 1
        if taken[one.scan_id] <= OF_ONE_SCAN:
            kept.append(one)
    return kept[:WORST_SLICES]


def told_apart(
    slices: Sequence[SliceScore],
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_], npt.NDArray[np.float64]]:
    """Of slices whose truth is known: has it tumour, was one predicted, and the highest probability."""
    known = [one for one in slices if one.true is not None]
    return (
        np.array([bool(one.true) for one in known], bool),
        np.array([one.found for one in known], bool),
        np.array([one.max_probability for one in known], np.float64),
    )


def truth_and_probability(slices: Sequence[SliceScore]) -> dict[str, Floats]:
    """Slices whose truth is known by patient: axes (N, 2), columns truth (0 or 1) and highest probability."""
    found: dict[str, list[tuple[float, float]]] = {}
    for one in slices:
        if one.true is not None:
            found.setdefault(one.patient_id, []).append((float(one.true > 0), one.max_probability))
    return {patient: np.array(rows) for patient, rows in found.items()}
