"""Which scans and slices a page shows, by rules that it states and that do not grow with the data."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from slicemill.io import lake, storage
from slicemill.io.parquet import read_file
from slicemill.io.uri import join
from slicemill.report.inputs import Inputs, Row
from slicemill.schemas import PROFILE, SCORED_SLICES

#: Scans of each kind (worst, middle, best) that are shown with outlines.
EXAMPLES = 4
#: Scans whose slices are compared one by one: all, or this many.
MAX_SLICE_SCANS = 400
#: Slices of each kind (false alarm, missed tumour) that are shown, and how many of them may be of one scan.
WORST_SLICES, OF_ONE_SCAN = 10, 2

#: The table of slices has one row a slice, and the profile one a slice and channel.
_SLICE_COLUMNS = ("slice_index", "tumour_pixels", "max_probability", "dice")
_PROFILE_COLUMNS = ("slice_index", "channel", "tumour_pixels")


@dataclass(frozen=True)
class SliceScore:
    """One scored slice; `true` is its tumour's area in pixels, None where no lake tells."""

    scan_id: str
    slice_index: int
    predicted: int
    true: int | None
    max_probability: float
    dice: float | None


def by_dice(rows: Sequence[Row]) -> list[Row]:
    """Rows with a Dice, the lowest first; of equals by scan id."""
    return sorted(
        (row for row in rows if row["dice"] is not None), key=lambda row: (row["dice"], row["scan_id"])
    )


def _largest_first(row: Row) -> tuple[int, str]:
    # A classifier predicts no volume.
    return -(row["predicted_volume"] or 0), row["scan_id"]


def examples(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """The worst, middle and best scans by Dice, none twice; without truth, the largest predictions."""
    ranked = by_dice(rows)
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
    """Scans that get a page: those asked for of `everything`, then the three worst and two best of `rows`."""
    by_id = {row["scan_id"]: row for row in everything}
    ranked = by_dice(rows) or sorted(rows, key=_largest_first)
    wanted = [by_id[scan_id] for scan_id in asked if scan_id in by_id] + ranked[:3] + ranked[-2:]
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


def read_slices(inputs: Inputs, rows: Sequence[Row]) -> list[SliceScore]:
    """The scored slices of scans, with the lake's truth where it holds the scan."""
    if inputs.scores is None:
        return []
    home = inputs.scores.home
    truth = _truth(inputs, rows)

    def read(row: Row) -> list[SliceScore]:
        if not row["slices"]:
            return []
        uri = lake.scored_scan(home, row["patient_id"], row["scan_id"], row["model_id"])
        stored = read_file(uri, SCORED_SLICES, _SLICE_COLUMNS).to_pylist()
        areas = truth.get(row["scan_id"], {})
        return [_slice_score(row, one, areas) for one in stored]

    return [one for slices in storage.each(read, rows, home) for one in slices]


def _slice_score(row: Row, stored: Mapping[str, Any], areas: Mapping[int, int | None]) -> SliceScore:
    index, predicted, dice = stored["slice_index"], stored["tumour_pixels"], stored["dice"]
    if predicted is None:
        # A classifier says of a slice whether there is any tumour, not how much.
        predicted = int(stored["max_probability"] >= row["threshold"])
    true = areas.get(index)
    if true is None and dice == 1.0 and predicted == 0:
        true = 0
    return SliceScore(row["scan_id"], index, predicted, true, stored["max_probability"], dice)


def _truth(inputs: Inputs, rows: Sequence[Row]) -> dict[str, dict[int, int | None]]:
    """Area of the tumour by scan and slice, from the lake's profile."""
    if inputs.lake is None:
        return {}
    home = inputs.lake.home
    wanted = {row["scan_id"] for row in rows if row["labelled_slices"]}
    there = [row for row in inputs.lake.scans if row["scan_id"] in wanted]

    def read(row: Row) -> dict[int, int | None]:
        # The profile's folders are those of the slices.
        uri = join(lake.profile(home), row["data_uri"].partition("/")[2])
        if not storage.exists(uri):
            return {}
        stored = read_file(uri, PROFILE, _PROFILE_COLUMNS).to_pylist()
        return {one["slice_index"]: one["tumour_pixels"] for one in stored if one["channel"] == 0}

    return dict(zip((row["scan_id"] for row in there), storage.each(read, there, home), strict=True))


def false_alarms(slices: Sequence[SliceScore]) -> list[SliceScore]:
    """Slices without tumour on which one was predicted, the largest first."""
    wrong = [one for one in slices if one.true == 0 and one.predicted > 0]
    return _spread(sorted(wrong, key=lambda one: (-one.predicted, one.scan_id, one.slice_index)))


def worst_with_tumour(slices: Sequence[SliceScore]) -> list[SliceScore]:
    """Slices with tumour of lowest Dice, of equals the largest tumour first."""
    there = [one for one in slices if one.true and one.dice is not None]
    return _spread(sorted(there, key=lambda one: (one.dice, -(one.true or 0), one.scan_id, one.slice_index)))


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
        np.array([one.predicted > 0 for one in known], bool),
        np.array([one.max_probability for one in known], np.float64),
    )
