"""Which scans and slices a page shows, by rules that it states and that do not grow with the data."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from slicemill.core.evaluation.rows import ScanScore
from slicemill.io.scores.results import SliceScore
from slicemill.pages.headline import Headline, headline, institutions
from slicemill.types import Floats

__all__ = [
    "Detection",
    "Headline",
    "best_with_tumour",
    "by_dice",
    "compared_scans",
    "detection",
    "examples",
    "false_alarms",
    "headline",
    "institutions",
    "is_classifier",
    "pages",
    "truth_and_probability",
    "worst_with_tumour",
]

#: Scans of each kind (worst, middle, best) that are shown with outlines.
EXAMPLES = 4
#: Scans whose slices are compared one by one: all, or this many.
MAX_SLICE_SCANS = 400
#: Slices of each kind (false alarm, missed tumour) that are shown, and how many of them may be of one scan.
WORST_SLICES, OF_ONE_SCAN = 10, 2


def by_dice(rows: Sequence[ScanScore]) -> list[ScanScore]:
    """Rows with a Dice, the lowest first; of equals by scan id."""
    return sorted((row for row in rows if row.dice is not None), key=lambda row: (row.dice, row.scan_id))


def _largest_first(row: ScanScore) -> tuple[int, str]:
    # A classifier predicts no volume.
    return -(row.predicted_volume or 0), row.scan_id


def examples(rows: Sequence[ScanScore]) -> dict[str, list[ScanScore]]:
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


def pages(
    rows: Sequence[ScanScore], all_rows: Sequence[ScanScore], scan_ids: Sequence[str]
) -> list[ScanScore]:
    """Scans that get a page: those of `all_rows` by their ids, then the three worst and two best of `rows`.

    Of a classifier, the first five.
    """
    by_id = {row.scan_id: row for row in all_rows}
    ranked = by_dice(rows) or sorted(rows, key=_largest_first)
    ends = ranked[:5] if is_classifier(rows) else ranked[:3] + ranked[-2:]
    selection = [by_id[scan_id] for scan_id in scan_ids if scan_id in by_id] + ends
    return list({row.scan_id: row for row in selection}.values())


def compared_scans(rows: Sequence[ScanScore]) -> list[ScanScore]:
    """Scans whose slices are read: all up to `MAX_SLICE_SCANS`.

    Of more, half are the ones of lowest Dice, half those with most voxels predicted beyond the truth.
    """
    if len(rows) <= MAX_SLICE_SCANS:
        return list(rows)
    half = MAX_SLICE_SCANS // 2
    excess = sorted(rows, key=lambda row: ((row.true_volume or 0) - (row.predicted_volume or 0), row.scan_id))
    selection = {row.scan_id: row for row in [*by_dice(rows)[:half], *excess[:half]]}
    return list(selection.values())


def is_classifier(rows: Sequence[ScanScore]) -> bool:
    """Whether these scans were scored by a classifier, which draws no masks."""
    return any(row.slices for row in rows) and all(row.predicted_volume is None for row in rows if row.slices)


def false_alarms(slices: Sequence[SliceScore]) -> list[SliceScore]:
    """Slices without tumour on which one was predicted, the largest (or a classifier's surest) first."""
    alarms = [score for score in slices if score.true == 0 and score.positive]
    return _spread(sorted(alarms, key=_alarm_rank))


def _alarm_rank(score: SliceScore) -> tuple[int, float, str, int]:
    return -(score.predicted or 0), -score.max_probability, score.scan_id, score.slice_index


def worst_with_tumour(slices: Sequence[SliceScore]) -> list[SliceScore]:
    """Slices with tumour of lowest Dice, of equals the largest tumour first.

    Of a classifier: those that it missed, of lowest probability first.
    """
    tumours = [score for score in slices if score.true and (score.dice is not None or not score.positive)]
    return _spread(sorted(tumours, key=_miss_rank))


def best_with_tumour(slices: Sequence[SliceScore]) -> list[SliceScore]:
    """Slices with tumour of highest Dice, of equals the largest tumour first; none of `worst_with_tumour`.

    Of a classifier: those on which it was surest of a tumour.
    """
    worst = set(worst_with_tumour(slices))
    tumours = [score for score in slices if score.true and score.positive and score not in worst]
    return _spread(sorted(tumours, key=_hit_rank))


def _hit_rank(score: SliceScore) -> tuple[float, int, str, int]:
    quality = score.dice if score.dice is not None else score.max_probability
    return -quality, -(score.true or 0), score.scan_id, score.slice_index


def _miss_rank(score: SliceScore) -> tuple[float, int, str, int]:
    quality = score.dice if score.dice is not None else score.max_probability
    return quality, -(score.true or 0), score.scan_id, score.slice_index


def _spread(ranked: Sequence[SliceScore]) -> list[SliceScore]:
    """The first of a ranking, so that no scan fills it alone."""
    counts: Counter[str] = Counter()
    first = []
    for score in ranked:
        counts[score.scan_id] += 1
        if counts[score.scan_id] <= OF_ONE_SCAN:
            first.append(score)
    return first[:WORST_SLICES]


@dataclass(frozen=True)
class Detection:
    """Slices whose truth is known, axes (N,): has it tumour, was one predicted, the highest probability."""

    tumour: npt.NDArray[np.bool_]
    positive: npt.NDArray[np.bool_]
    probability: Floats

    @property
    def rates(self) -> tuple[float, float] | None:
        """False and true positive rate as predicted; None unless slices with and without tumour occur."""
        if not self.tumour.any() or self.tumour.all():
            return None
        return float(self.positive[~self.tumour].mean()), float(self.positive[self.tumour].mean())


def detection(slices: Sequence[SliceScore]) -> Detection:
    """Slices whose truth is known, as arrays."""
    labelled = [score for score in slices if score.true is not None]
    return Detection(
        np.array([bool(score.true) for score in labelled], bool),
        np.array([score.positive for score in labelled], bool),
        np.array([score.max_probability for score in labelled], np.float64),
    )


def truth_and_probability(slices: Sequence[SliceScore]) -> dict[str, Floats]:
    """Slices whose truth is known by patient: axes (N, 2), columns truth (0 or 1) and highest probability."""
    by_patient: dict[str, list[tuple[float, float]]] = {}
    for score in slices:
        if score.true is not None:
            pair = float(score.true > 0), score.max_probability
            by_patient.setdefault(score.patient_id, []).append(pair)
    return {patient: np.array(pairs) for patient, pairs in by_patient.items()}
