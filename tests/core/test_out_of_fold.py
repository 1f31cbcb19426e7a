"""All folds together: the worst scans with why, calibration, a threshold of other folds, and triage."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from slicemill.core.evaluation.calibration import calibration, threshold_choice
from slicemill.core.evaluation.confidence import BINS
from slicemill.core.evaluation.rows import ScanScore
from slicemill.core.evaluation.triage import look_first, triage_worth
from slicemill.core.results.out_of_fold import out_of_fold


def counts(**bins: int) -> tuple[int, ...]:
    """Voxels by the bin's name, such as b19=4."""
    return tuple(bins.get(f"b{place}", 0) for place in range(BINS))


def row(name: str, dice: float | None, **numbers: object) -> ScanScore:
    return ScanScore(name, f"{name}-scan", dice=dice, slices=1, labelled_slices=1, model_id="m", **numbers)


#: Best from bin 4 on: 8 tumour voxels of 10 in it, which a threshold of one half leaves out.
LOW = {
    "voxels_by_probability": counts(b0=80, b4=10, b19=10),
    "tumour_by_probability": counts(b4=8, b19=10),
}
#: Best from bin 19 on.
HIGH = {
    "voxels_by_probability": counts(b0=80, b4=10, b19=10),
    "tumour_by_probability": counts(b19=10),
}


def test_the_worst_scans_come_with_the_kind_that_most_wrong_voxels_are_of() -> None:
    rows = {
        0: [
            row("a", 0.2, missed_voxels=9, false_voxels=3, border_voxels=4),
            row("b", 1.0, missed_voxels=0, false_voxels=0, border_voxels=0),
        ],
        1: [row("c", 0.1, missed_voxels=0, false_voxels=8, border_voxels=2), row("d", 0.3), row("e", None)],
    }
    result = out_of_fold(rows, {"a-scan": "AA"})
    found = [(scan.scan_id, scan.fold, scan.why, scan.institution) for scan in result.worst]
    assert found == [
        ("c-scan", 1, "false positive", "unknown"),
        ("a-scan", 0, "missed", "AA"),
        ("d-scan", 1, None, "unknown"),
        ("b-scan", 0, "none", "unknown"),
    ]
    assert result.dice.mean_patient_dice.value == pytest.approx(0.4)


def test_a_threshold_is_tried_on_patients_that_did_not_choose_it() -> None:
    folds = {0: [row("a", 0.5, **LOW)], 1: [row("b", 0.5, **HIGH)]}
    choice = threshold_choice(folds)
    # Fold 1 alone is best by one half, so fold 0 gets that, and the other way round.
    assert [fold.threshold for fold in choice.folds] == [0.5, 0.2]
    assert choice.folds[0].dice == choice.folds[0].dice_at_half == pytest.approx(20 / 28)
    assert (choice.folds[1].dice, choice.folds[1].dice_at_half) == (pytest.approx(20 / 30), 1.0)
    assert choice.difference.mean_difference.value == pytest.approx((0 + 20 / 30 - 1) / 2)
    assert threshold_choice({0: folds[0]}) is None


def test_reliability_is_the_share_of_tumour_in_each_bin() -> None:
    found = calibration([row("a", 1.0, **LOW), row("b", 1.0, **HIGH), row("c", 1.0)])
    assert (found.scans, found.bins[4].voxels, found.bins[4].share) == (2, 20, pytest.approx(0.4))
    # By hand: 20 voxels of a middle of 0.225 are tumour in 0.4, 20 of 0.975 in 1.
    assert found.error == pytest.approx((0.175 + 0.025) / 2)
    assert calibration([row("c", 1.0)]) is None


def test_probabilities_that_hold_have_no_error() -> None:
    random = np.random.default_rng(0)
    voxels = np.full(BINS, 100_000)
    tumour = random.binomial(voxels, (np.arange(BINS) + 0.5) / BINS)
    exact = {
        "voxels_by_probability": tuple(map(int, voxels)),
        "tumour_by_probability": tuple(map(int, tumour)),
    }
    assert calibration([row("a", 1.0, **exact)]).error < 0.003


def test_what_is_to_be_looked_at_first_says_why() -> None:
    assert look_first(0.9, 0) == ("no tumour was predicted",)
    assert look_first(0.123, 5, ["FLAIR"]) == ("FLAIR is missing", "expected Dice 0.12")
    assert look_first(0.95, 5) == ()


def test_triage_is_worth_what_the_flagged_have_less() -> None:
    doubt = ("expected Dice 0.50",)
    rows = [
        row("a", 0.9, look_first=()),
        row("b", 0.6, look_first=()),
        row("c", 0.2, look_first=doubt),
        row("d", 0.4, look_first=doubt),
    ]
    worth = triage_worth(rows)
    assert (worth.flagged, worth.rest) == (2, 2)
    assert (worth.flagged_dice.value, worth.rest_dice.value) == (pytest.approx(0.3), pytest.approx(0.75))
    assert (worth.bad, worth.bad_flagged) == (3, 2)
    assert triage_worth([replace(rows[0], look_first=None)]) is None
