"""Counts by probability, expected Dice, and where a mask is wrong."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slicemill.core.evaluation.confidence import BINS, TOP, expected_dice, level_counts, probability_counts
from slicemill.core.evaluation.dice import dice
from slicemill.core.evaluation.mistakes import BORDER, mistakes

seeds = st.integers(0, 2**32 - 1)


@given(seeds, st.integers(1, BINS - 1))
def test_dice_at_another_threshold_is_that_of_the_mask_made_with_it(seed: int, edge: int) -> None:
    random = np.random.default_rng(seed)
    levels = random.integers(0, TOP + 1, (3, 5, 7), dtype=np.uint8)
    true = random.integers(0, 2, levels.shape, dtype=np.uint8)
    made = levels >= TOP * edge / BINS
    counts = probability_counts(level_counts(levels, made, true))
    assert sum(counts.voxels) == levels.size
    assert counts.dice_at(edge) == pytest.approx(dice(made, true))


def test_voxels_without_truth_count_for_the_expectation_alone() -> None:
    levels = np.array([[[0, TOP]]], np.uint8)
    counts = level_counts(levels, levels > 0, None)
    assert sum(probability_counts(counts).voxels) == 0
    assert expected_dice(counts) == 1.0


@given(seeds)
def test_expected_dice_is_what_is_found_when_the_probabilities_hold(seed: int) -> None:
    random = np.random.default_rng(seed)
    levels = np.where(random.random((4, 48, 48)) < 0.2, random.integers(0, TOP + 1, (4, 48, 48)), 0)
    predicted = levels >= TOP / 2
    drawn = [dice(predicted, random.random(levels.shape) < levels / TOP) for _ in range(30)]
    counts = level_counts(levels.astype(np.uint8), predicted, None)
    assert expected_dice(counts) == pytest.approx(np.mean(drawn), abs=0.02)


def test_nothing_predicted_and_something_probable_is_no_match() -> None:
    levels = np.full((1, 2, 2), 100, np.uint8)
    assert expected_dice(level_counts(levels, np.zeros_like(levels), None)) == 0.0
    assert expected_dice(level_counts(levels * 0, np.zeros_like(levels), None)) == 1.0


def test_a_wrong_voxel_is_of_the_border_only_near_a_matched_one() -> None:
    true, predicted = np.zeros((2, 20, 20), np.uint8), np.zeros((2, 20, 20), np.uint8)
    true[0, 5:10, 5:10] = 1
    predicted[0, 5:10, 5 : 10 + BORDER] = 1  # a margin too wide by the border
    predicted[0, 15, 15] = 1  # beside the tumour
    true[1, 3:5, 3:5] = 1  # missed in a slice of its own
    found = mistakes(predicted, true)
    assert (found.missed, found.false, found.border) == (4, 1, 5 * BORDER)
    assert found.main == "border"


@given(seeds)
def test_mistakes_are_all_voxels_in_which_masks_differ(seed: int) -> None:
    random = np.random.default_rng(seed)
    predicted, true = random.integers(0, 2, (2, 3, 9, 11), dtype=np.uint8)
    found = mistakes(predicted, true)
    assert found.missed + found.false + found.border == np.count_nonzero(predicted != true)
    other = mistakes(true, predicted)
    assert (other.missed, other.false, other.border) == (found.false, found.missed, found.border)


def test_masks_of_unequal_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="expected two of axes"):
        mistakes(np.zeros((1, 2, 2), np.uint8), np.zeros((1, 2, 3), np.uint8))
