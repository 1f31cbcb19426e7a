"""Shape features on bodies whose numbers are known by hand."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slicemill.core.evaluation.shape import (
    angular_standard_deviation,
    bounding_ellipsoid_volume,
    margin_fluctuation,
    shape_features,
    surface_area,
)
from slicemill.core.evaluation.surface import surface

Bool = npt.NDArray[np.bool_]


def ellipsoid(z: float, y: float, x: float, size: int = 64) -> Bool:
    """An ellipsoid with these half axes, in voxels, in the middle of a cube."""
    axis = np.arange(size) - size / 2
    return (
        (axis[:, None, None] / z) ** 2 + (axis[None, :, None] / y) ** 2 + (axis[None, None, :] / x) ** 2
    ) <= 1


def star(radius: Callable[[npt.NDArray[np.float64]], npt.NDArray[np.float64]], size: int = 256) -> Bool:
    """A slice whose tumour ends at `radius` of the angle around the middle."""
    axis = np.arange(size) - size / 2
    y, x = np.meshgrid(axis, axis, indexing="ij")
    return np.hypot(y, x) <= radius(np.arctan2(y, x))


@pytest.mark.parametrize("axes", [(20, 20, 20), (12, 20, 26), (25, 12, 12)])
def test_an_ellipsoid_has_the_volume_and_surface_of_its_formulas(axes: tuple[int, int, int]) -> None:
    features = shape_features(ellipsoid(*axes))
    assert features is not None
    assert features.volume == pytest.approx(4 / 3 * math.pi * math.prod(axes), rel=0.01)
    # Knud Thomsen's formula, within 1.1 %.
    power = 1.6075
    pairs = [(axes[0] * axes[1]), (axes[0] * axes[2]), (axes[1] * axes[2])]
    area = 4 * math.pi * (sum(pair**power for pair in pairs) / 3) ** (1 / power)
    assert features.surface_area == pytest.approx(area, rel=0.04)


def test_a_ball_is_round_by_every_measure() -> None:
    features = shape_features(ellipsoid(20, 20, 20))
    assert features is not None
    assert features.sphericity == pytest.approx(1, abs=0.03)
    # The corners of its voxels stick out of it.
    assert features.bounding_ellipsoid_volume_ratio == pytest.approx(0.88, abs=0.02)
    assert features.angular_standard_deviation < 0.02
    assert features.margin_fluctuation < 0.02
    assert features.slices == 41
    assert features.extent == (41, 41, 41)
    assert features.centroid == pytest.approx((32, 32, 32), abs=0.01)
    assert features.laterality == pytest.approx(0, abs=0.03)


def test_the_bounding_ellipsoid_of_a_box_is_the_balls_through_its_corners() -> None:
    box = np.zeros((40, 40, 40), bool)
    box[5:25, 5:25, 5:25] = True
    sphere = 4 / 3 * math.pi * (10 * math.sqrt(3)) ** 3
    assert bounding_ellipsoid_volume(box) == pytest.approx(sphere, rel=0.005)
    features = shape_features(box)
    assert features is not None
    # 2 / (pi * sqrt(3)), for a box of any sides.
    assert features.bounding_ellipsoid_volume_ratio == pytest.approx(2 / (math.pi * math.sqrt(3)), rel=0.005)
    assert features.surface_area == pytest.approx(6 * 20**2, rel=0.1)


def test_a_shell_has_two_surfaces_and_its_outer_ellipsoid() -> None:
    ball, hole = ellipsoid(20, 20, 20), ellipsoid(12, 12, 12)
    shell = ball & ~hole
    assert surface_area(shell) == pytest.approx(surface_area(ball) + surface_area(hole), rel=0.01)
    assert bounding_ellipsoid_volume(shell) == pytest.approx(bounding_ellipsoid_volume(ball), rel=1e-6)


@pytest.mark.parametrize("waves", [12, 20])
def test_the_fluctuation_of_a_wavy_margin_is_that_of_its_wave(waves: int) -> None:
    """A wave much shorter than the filter is taken whole: its standard deviation is amplitude / sqrt(2)."""
    tumour = star(lambda angle: 80 * (1 + 0.1 * np.cos(waves * angle)))
    assert margin_fluctuation(tumour) == pytest.approx(0.1 / math.sqrt(2), rel=0.2)
    assert margin_fluctuation(star(lambda angle: np.full_like(angle, 80.0))) < 0.01


def test_the_angular_deviation_of_an_ellipse_is_that_of_its_radius() -> None:
    a, b = 100.0, 50.0
    tumour = star(lambda angle: a * b / np.hypot(b * np.cos(angle), a * np.sin(angle)), 256)
    # The same number along the boundary itself, by equal lengths of it.
    turn = np.linspace(-math.pi, math.pi, 200_001)[:-1]
    y, x = b * np.sin(turn), a * np.cos(turn)
    angle, distance = np.arctan2(y, x), np.hypot(y, x)
    weight = np.maximum(np.abs(np.gradient(y)), np.abs(np.gradient(x)))
    distance = distance / np.average(distance, weights=weight)
    bins = ((angle + math.pi) / (2 * math.pi) * 10).astype(int) % 10
    deviations = []
    for index in range(10):
        inside = bins == index
        mean = np.average(distance[inside], weights=weight[inside])
        deviations.append(math.sqrt(np.average((distance[inside] - mean) ** 2, weights=weight[inside])))
    assert angular_standard_deviation(tumour) == pytest.approx(np.mean(deviations), rel=0.05)


@pytest.mark.parametrize("scale", [0.5, 2.0])
def test_lengths_follow_the_spacing_and_ratios_do_not(scale: float) -> None:
    body = ellipsoid(10, 14, 20)
    plain, scaled = shape_features(body), shape_features(body, (scale, scale, scale))
    assert plain is not None
    assert scaled is not None
    assert scaled.volume == pytest.approx(plain.volume * scale**3)
    assert scaled.surface_area == pytest.approx(plain.surface_area * scale**2)
    assert scaled.extent == pytest.approx([side * scale for side in plain.extent])
    for name in ("sphericity", "bounding_ellipsoid_volume_ratio", "margin_fluctuation", "laterality"):
        assert getattr(scaled, name) == pytest.approx(getattr(plain, name), rel=1e-3)


def test_a_ball_in_thick_slices_is_a_ball_where_the_spacing_is_known() -> None:
    """Slices 4 times as far apart as columns: without the spacing the ball would be a flat lens."""
    flat = ellipsoid(5, 20, 20)
    features = shape_features(flat, (4.0, 1.0, 1.0))
    assert features is not None
    assert features.sphericity == pytest.approx(1, abs=0.06)
    ignorant = shape_features(flat)
    assert ignorant is not None
    assert ignorant.sphericity < 0.75


#: Largest relative change of each feature when a ball of radius 16 loses its outermost voxels.
EROSION = {
    "volume": 0.22,
    "surface_area": 0.16,
    "sphericity": 0.01,
    "bounding_ellipsoid_volume_ratio": 0.05,
}


def test_one_voxel_of_erosion_changes_each_feature_as_stated() -> None:
    ball = ellipsoid(16, 16, 16)
    before, after = shape_features(ball), shape_features(ball & ~surface(ball))
    assert before is not None
    assert after is not None
    for name, most in EROSION.items():
        assert abs(getattr(after, name) / getattr(before, name) - 1) <= most, name


@pytest.mark.parametrize("axes", [(16, 16, 16), (10, 16, 12)])
def test_one_voxel_of_erosion_moves_the_other_features_as_stated(axes: tuple[int, int, int]) -> None:
    body = ellipsoid(*axes)
    before, after = shape_features(body), shape_features(body & ~surface(body))
    assert before is not None
    assert after is not None
    assert abs(after.angular_standard_deviation - before.angular_standard_deviation) <= 0.01
    assert abs(after.margin_fluctuation - before.margin_fluctuation) <= 0.003
    assert before.slices - after.slices == 2
    assert [one - other for one, other in zip(before.extent, after.extent, strict=True)] == [2, 2, 2]
    assert after.centroid == pytest.approx(before.centroid)
    assert after.laterality == pytest.approx(before.laterality)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 6), st.integers(0, 2**32 - 1))
def test_any_mask_has_finite_features_within_their_bounds(voxels: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    mask = np.zeros((4, 6, 8), np.uint8)
    mask.ravel()[random.choice(mask.size, voxels, replace=False)] = 1
    features = shape_features(mask)
    assert features is not None
    assert features.volume == voxels
    assert 0 < features.bounding_ellipsoid_volume_ratio <= 1
    assert features.surface_area > 0
    assert -1 <= features.laterality <= 1
    assert math.isfinite(features.margin_fluctuation)
    assert math.isfinite(features.angular_standard_deviation)


def test_an_empty_mask_has_no_shape() -> None:
    assert shape_features(np.zeros((3, 4, 5))) is None


@pytest.mark.parametrize(("mask", "spacing"), [(np.ones((4, 4)), (1, 1, 1)), (np.ones((2, 4, 4)), (0, 1, 1))])
def test_other_axes_or_no_spacing_is_refused(
    mask: npt.NDArray[np.generic], spacing: tuple[float, ...]
) -> None:
    with pytest.raises(ValueError, match="expected axes"):
        shape_features(mask, spacing)  # type: ignore[arg-type]  # the wrong type is the point
