from __future__ import annotations

import json
from itertools import product

import numpy as np
import pytest

from slicemill.core.evaluation.document import document
from slicemill.core.evaluation.rows import ScanScore
from slicemill.core.evaluation.summary import dice_summary, paired_difference, patient_means, slice_summary


def row(scan: str, patient: str, dice: float | None) -> ScanScore:
    return ScanScore(patient, scan, dice=dice)


ROWS = [row("a1", "a", 0.2), row("a2", "a", 0.4), row("b1", "b", 0.9), row("c1", "c", None)]


def test_a_patient_is_the_mean_of_its_scans() -> None:
    assert patient_means(ROWS) == {"a": pytest.approx(0.3), "b": 0.9}
    found = dice_summary(ROWS)
    assert (found.scans, found.scans_with_truth, found.patients_with_truth) == (4, 3, 2)
    assert found.mean_patient_dice.value == pytest.approx(0.6)
    assert found.mean_patient_dice.low == pytest.approx(0.3)
    assert [one.scan_id for one in found.worst] == ["a1", "a2", "b1"]
    assert [one.scan_id for one in found.best] == ["b1", "a2", "a1"]
    json.dumps(document(found), allow_nan=False)


def test_without_truth_there_is_no_mean() -> None:
    found = dice_summary([row("a", "a", None)])
    assert (found.mean_patient_dice, found.best) == (None, ())


def test_slices_by_hand() -> None:
    slices = {"a": np.array([[1, 0.9], [0, 0.6]]), "b": np.array([[1, 0.5], [0, 0.1]]), "c": np.zeros((0, 2))}
    found = slice_summary(slices, 0.5)
    assert found.slices_with_truth == 4
    assert found.slice_accuracy.value == 0.75
    # Of the four pairs of a slice with and one without tumour, one is in the wrong order.
    assert found.slice_auroc.value == 0.75
    assert found.slice_auroc.low <= 0.75 <= found.slice_auroc.high
    assert slice_summary({"a": np.array([[0, 0.6]])}, 0.5).slice_auroc is None
    assert slice_summary({}, 0.5).slice_accuracy is None


def test_slices_of_one_patient_are_drawn_together() -> None:
    # Ten equal slices a patient say no more than one: the interval is that of three patients.
    right, wrong = np.tile([1, 0.9], (10, 1)), np.tile([1, 0.1], (10, 1))
    found = slice_summary({"a": right, "b": right, "c": wrong}, 0.5).slice_accuracy
    assert (found.low, found.high) == (0.0, 1.0)


def test_the_p_value_is_the_share_of_sign_changes() -> None:
    first = {"a": 0.5, "b": 0.7, "c": 0.9, "d": 0.4, "e": 0.65}
    second = {"a": 0.4, "b": 0.5, "c": 0.6, "d": 0.45, "e": 0.35, "x": 1.0}
    found = paired_difference(first, second)
    differences = np.array([0.1, 0.2, 0.3, -0.05, 0.3])
    sums = np.abs([np.dot(signs, differences) for signs in product((-1, 1), repeat=5)])
    exact = np.mean(sums >= differences.sum() - 1e-9)
    assert found.patients == 5
    assert found.mean_difference.value == pytest.approx(0.17)
    assert (found.first_better, found.second_better) == (4, 1)
    assert found.p_value == pytest.approx(exact, abs=0.01)


def test_equal_models_do_not_differ() -> None:
    found = paired_difference({"a": 0.5, "b": 0.7}, {"a": 0.5, "b": 0.7})
    assert (found.mean_difference.value, found.p_value) == (0.0, 1.0)


def test_nothing_in_common_is_an_error() -> None:
    with pytest.raises(ValueError, match="finite values"):
        paired_difference({"a": 0.5}, {"b": 0.7})
