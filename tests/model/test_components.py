from __future__ import annotations

import numpy as np

from slicemill.model.components import largest_component


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
