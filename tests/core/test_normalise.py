from __future__ import annotations

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given
from hypothesis.extra.numpy import arrays

from slicemill.core.scans.normalise import RULE_NAMES, SCALE_FLOOR, from_histogram, rule_of


def _histogram(voxels: np.ndarray) -> np.ndarray:
    return np.bincount(voxels.ravel(), minlength=256)


def test_known_answer_of_two_grey_values() -> None:
    # 80 voxels of 0, 20 of 100: p10 is 0, p99 is 100, mean 20, variance 0.8 * 20^2 + 0.2 * 80^2 = 1600.
    histogram = np.zeros((1, 256), dtype=np.int64)
    histogram[0, 0], histogram[0, 100] = 80, 20

    low, high, mean, scale = from_histogram(histogram)[0]

    assert (low, high, mean, scale) == (0, 100, 20, 40)


def test_a_bright_speck_is_clipped() -> None:
    histogram = np.zeros((1, 256), dtype=np.int64)
    histogram[0, 10], histogram[0, 20], histogram[0, 255] = 500, 500, 5

    low, high, *_ = from_histogram(histogram)[0]

    assert (low, high) == (10, 20)


@given(arrays(np.uint8, st.integers(1, 400)))
def test_it_is_the_z_score_of_the_clipped_voxels(voxels: np.ndarray) -> None:
    low, high = np.percentile(voxels, [10, 99], method="inverted_cdf")
    clipped = np.clip(voxels.astype(float), low, high)

    found = from_histogram(_histogram(voxels)[None])[0]

    expected = [low, high, clipped.mean(), max(clipped.std(), SCALE_FLOOR)]
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-4)


@given(arrays(np.uint8, (3, 50)), st.integers(1, 9))
def test_channels_are_apart_and_the_number_of_voxels_does_not_matter(voxels: np.ndarray, times: int) -> None:
    histograms = np.stack([_histogram(channel) for channel in voxels])

    together = from_histogram(histograms * times)

    assert together.shape == (3, 4)
    assert together.dtype == np.float32
    for channel, alone in zip(together, histograms, strict=True):
        np.testing.assert_allclose(channel, from_histogram(alone[None])[0], rtol=1e-6)


def test_blank_and_empty_channels_give_finite_zeros() -> None:
    histogram = np.zeros((2, 256), dtype=np.int64)
    histogram[0, 7] = 1000

    blank, empty = from_histogram(histogram)

    assert (np.clip(7, blank[0], blank[1]) - blank[2]) / blank[3] == 0
    assert empty.tolist() == [0, 255, 0, 1]


def test_tissue_is_scaled_by_itself_however_much_air_there_is() -> None:
    # Of the 90 brighter voxels 45 are 50 and 45 are 100: mean 75, deviation 25.
    tissue = np.zeros((1, 256), dtype=np.int64)
    tissue[0, 4], tissue[0, 50], tissue[0, 100] = 10, 45, 45
    with_air = tissue.copy()
    with_air[0, 0] = 400

    alone, beside_air = from_histogram(tissue, "tissue")[0], from_histogram(with_air, "tissue")[0]

    assert alone.tolist() == [50, 100, 75, 25]
    assert beside_air.tolist() == alone.tolist()


def test_a_channel_without_tissue_is_finite_too() -> None:
    histogram = np.zeros((2, 256), dtype=np.int64)
    histogram[0, 0] = 1000

    dark, empty = from_histogram(histogram, "tissue")

    assert dark.tolist() == [0, 0, 0, 1]
    assert empty.tolist() == [0, 255, 0, 1]


def test_none_leaves_grey_values_between_0_and_1() -> None:
    assert from_histogram(np.zeros((1, 256), dtype=np.int64), "none").tolist() == [[0, 255, 0, 255]]


def test_a_card_names_its_rule() -> None:
    assert [rule_of(name) for name in RULE_NAMES.values()] == list(RULE_NAMES)
    with pytest.raises(ValueError, match="expected one of p10"):
        rule_of("p5-p95")


@pytest.mark.parametrize("histogram", [np.zeros(256), np.zeros((3, 255)), np.full((3, 256), -1)])
def test_anything_else_is_refused(histogram: np.ndarray) -> None:
    with pytest.raises(ValueError, match="axes"):
        from_histogram(histogram)
