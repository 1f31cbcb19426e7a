from __future__ import annotations

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given
from hypothesis.extra.numpy import arrays

from slicemill.core.evaluation.dice import (
    dice,
    dice_from_counts,
    iou_from_counts,
    scan_scores,
    slice_counts,
    slice_mean_dice,
)

MASKS = arrays(np.uint8, (3, 4, 5), elements=st.integers(0, 1))


def _mask(*rows: str) -> np.ndarray:
    """One slice a string, its rows apart by a slash."""
    return np.array(
        [[[int(digit) for digit in row] for row in one.split("/")] for one in rows], dtype=np.uint8
    )


@pytest.mark.parametrize(
    ("counts", "expected"),
    [((0, 0, 0), 1.0), ((0, 3, 0), 0.0), ((0, 0, 3), 0.0), ((2, 3, 5), 0.5), ((4, 4, 4), 1.0)],
)
def test_dice_of_counts(counts: tuple[int, int, int], expected: float) -> None:
    assert dice_from_counts(*counts) == expected


def test_iou_of_counts() -> None:
    assert iou_from_counts(2, 3, 5) == 2 / 6
    assert iou_from_counts(0, 0, 0) == 1
    assert iou_from_counts(0, 1, 0) == 0


def test_volume_and_slice_mean_are_different_numbers() -> None:
    predicted = _mask("11/00", "00/00", "10/00")
    true = _mask("11/11", "00/00", "00/00")

    scores = scan_scores(predicted, true)

    assert scores.dice == 2 * 2 / (3 + 4)
    assert scores.iou == 2 / 5
    # Slices: 2 * 2 / (2 + 4), both empty, predicted without truth.
    assert scores.slice_mean_dice == pytest.approx((2 / 3 + 1 + 0) / 3)
    assert (scores.predicted_volume, scores.true_volume) == (3, 4)


@given(MASKS, MASKS)
def test_laws(predicted: np.ndarray, true: np.ndarray) -> None:
    scores, swapped = scan_scores(predicted, true), scan_scores(true, predicted)

    assert 0 <= scores.dice <= 1
    assert scores.dice == swapped.dice
    assert scores.slice_mean_dice == swapped.slice_mean_dice
    assert scores.hd95 == swapped.hd95
    assert scores.dice == pytest.approx(2 * scores.iou / (1 + scores.iou))
    assert dice(true, true) == slice_mean_dice(true, true) == 1


@given(MASKS, MASKS)
def test_boolean_and_byte_masks_count_alike(predicted: np.ndarray, true: np.ndarray) -> None:
    assert scan_scores(predicted, true) == scan_scores(predicted.astype(bool), true.astype(bool))
    np.testing.assert_array_equal(
        slice_counts(predicted, true)[:, 1:], np.stack([predicted, true]).sum(axis=(2, 3)).T
    )


def test_unequal_masks_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\(2, 4, 4\) and \(2, 4, 5\)"):
        dice(np.zeros((2, 4, 4), np.uint8), np.zeros((2, 4, 5), np.uint8))


def test_the_mean_over_no_slices_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one slice"):
        slice_mean_dice(np.zeros((0, 4, 4), np.uint8), np.zeros((0, 4, 4), np.uint8))
