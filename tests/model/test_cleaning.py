from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from slicemill.core.evaluation.options import CLEANINGS
from slicemill.model.predicting.cleaning import clean_mask, largest_component, smooth_slices


def test_the_largest_component_is_one_in_three_dimensions() -> None:
    masks = np.zeros((3, 6, 6), np.uint8)
    masks[0, 0, 0] = masks[1, 1, 1] = masks[2, 2, 2] = 1  # corner to corner through the slices: three voxels
    masks[0, 5, 4:6] = 1  # two in a plane
    kept = largest_component(masks)
    assert kept.dtype == np.uint8
    assert np.argwhere(kept).tolist() == [[0, 0, 0], [1, 1, 1], [2, 2, 2]]


def test_nothing_and_one_stay_as_they_are() -> None:
    masks = np.zeros((2, 4, 4), np.uint8)
    assert np.array_equal(largest_component(masks), masks)
    masks[:, 1:3, 1:3] = 1
    assert np.array_equal(largest_component(masks), masks)


def test_neighbours_have_a_quarter_each_and_an_end_counts_for_the_one_it_lacks() -> None:
    levels = np.zeros((5, 1, 2), np.uint8)
    levels[2, 0, 0] = 255  # alone: half in its own slice, a quarter beside it
    levels[0, 0, 1] = 204  # 0.8 at the end: three quarters of it there, a quarter in the next slice
    assert smooth_slices(levels, 0.5)[:, 0, 0].tolist() == [0, 0, 1, 0, 0]
    assert smooth_slices(levels, 0.25)[:, 0, 0].tolist() == [0, 1, 1, 1, 0]
    assert smooth_slices(levels, 0.51)[:, 0, 0].tolist() == [0, 0, 0, 0, 0]
    assert smooth_slices(levels, 0.6)[:, 0, 1].tolist() == [1, 0, 0, 0, 0]
    assert smooth_slices(levels, 0.2)[:, 0, 1].tolist() == [1, 1, 0, 0, 0]


@given(arrays.arrays(np.uint8, (4, 2, 3)), st.floats(0.01, 0.99))
def test_smoothing_is_the_same_upside_down_and_leaves_even_stacks(
    levels: np.ndarray, threshold: float
) -> None:
    assert np.array_equal(smooth_slices(levels[::-1], threshold), smooth_slices(levels, threshold)[::-1])
    even = np.repeat(levels[:1], 5, axis=0)
    assert np.array_equal(smooth_slices(even, threshold), even >= 255 * threshold)


def test_each_choice_of_cleaning() -> None:
    probabilities = np.zeros((3, 4, 4), np.float32)
    probabilities[:2, :2, :2] = 0.9  # 8 voxels; of the third slice a quarter of 0.9
    probabilities[1, 3, 3] = 0.9  # alone in its slice: 0.45 when smoothed
    probabilities[:, 0, 3] = 0.6  # a column of three that stays
    volumes = {options.names: int(clean_mask(probabilities, 0.5, options).sum()) for options in CLEANINGS}
    assert volumes == {
        (): 12,
        ("smooth-slices",): 11,
        ("largest-component",): 8,
        ("smooth-slices", "largest-component"): 8,
    }


def test_one_slice_and_none() -> None:
    one = np.full((1, 2, 2), 128, np.uint8)
    assert smooth_slices(one, 0.5).all()
    assert smooth_slices(one[:0], 0.5).shape == (0, 2, 2)
