from __future__ import annotations

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given
from hypothesis.extra.numpy import array_shapes, arrays

from slicemill.core.evaluation.surface import hausdorff95, surface

SHAPES = array_shapes(min_dims=3, max_dims=3, max_side=7)


def _brute_surface(mask: np.ndarray) -> np.ndarray:
    """Points with a face neighbour outside the mask, one by one."""
    padded = np.pad(mask, 1)
    steps = [(1, 0, 0), (-1, 0, 0), (0, 1, 0), (0, -1, 0), (0, 0, 1), (0, 0, -1)]
    points = np.argwhere(mask)
    outside = [any(not padded[tuple(point + 1 + step)] for step in steps) for point in points]
    return points[outside]


def _brute_hausdorff95(
    predicted: np.ndarray, true: np.ndarray, spacing: tuple[float, float, float] = (1, 1, 1)
) -> float | None:
    ours, theirs = (_brute_surface(mask) * spacing for mask in (predicted, true))
    if not len(ours) or not len(theirs):
        return None
    apart = np.sqrt(((ours[:, None] - theirs[None]) ** 2).sum(axis=2))
    return float(max(np.percentile(apart.min(axis=1), 95), np.percentile(apart.min(axis=0), 95)))


@given(st.data())
def test_it_is_the_distance_between_every_pair_of_surface_voxels(data: st.DataObject) -> None:
    shape = data.draw(SHAPES)
    predicted, true = (data.draw(arrays(np.bool_, shape)) for _ in range(2))

    found = hausdorff95(predicted, true)

    expected = _brute_hausdorff95(predicted, true)
    assert found == (None if expected is None else pytest.approx(expected))


SIDES = st.floats(0.01, 50)


@given(st.data(), st.tuples(SIDES, SIDES, SIDES))
def test_a_spacing_stretches_every_axis(data: st.DataObject, spacing: tuple[float, float, float]) -> None:
    shape = data.draw(SHAPES)
    predicted, true = (data.draw(arrays(np.bool_, shape)) for _ in range(2))
    expected = _brute_hausdorff95(predicted, true, spacing)
    assert hausdorff95(predicted, true, spacing) == (None if expected is None else pytest.approx(expected))


@given(arrays(np.bool_, SHAPES))
def test_surface_voxels(mask: np.ndarray) -> None:
    np.testing.assert_array_equal(np.argwhere(surface(mask)), _brute_surface(mask))


def test_two_single_voxels() -> None:
    predicted, true = np.zeros((2, 5, 30, 30), dtype=np.uint8)
    predicted[0, 2, 3] = true[4, 5, 15] = 1

    assert hausdorff95(predicted, true) == 13  # sqrt(4^2 + 3^2 + 12^2)


def test_two_single_voxels_in_millimetres() -> None:
    predicted, true = np.zeros((2, 5, 30, 30), dtype=np.uint8)
    predicted[0, 2, 3] = true[2, 8, 18] = 1

    assert hausdorff95(predicted, true, (6.0, 1.5, 0.8)) == pytest.approx(19.209372712298546)  # 12, 9 and 12


def test_the_numbers_of_monai() -> None:
    # MONAI 1.6.1, HausdorffDistanceMetric(percentile=95, include_background=True), gave these in float32.
    for left, expected in ((4, 10.049875259399414), (5, 10.198039054870605)):
        predicted, true = np.zeros((2, 8, 40, 50), dtype=bool)
        predicted[2:5, 3:20, left:30] = True
        true[3:8, 10:30, 0:22] = True
        assert hausdorff95(predicted, true) == pytest.approx(expected, rel=1e-6)


def test_an_empty_mask_has_no_surface() -> None:
    full, empty = np.ones((2, 3, 3), dtype=np.uint8), np.zeros((2, 3, 3), dtype=np.uint8)

    assert hausdorff95(full, empty) is None
    assert hausdorff95(empty, full) is None
    assert hausdorff95(full, full) == 0


def test_unequal_masks_are_refused() -> None:
    with pytest.raises(ValueError, match="axes"):
        hausdorff95(np.zeros((2, 4, 4)), np.zeros((2, 4, 5)))
