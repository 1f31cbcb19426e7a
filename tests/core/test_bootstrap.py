from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from slicemill.core.evaluation.intervals import mean_interval, median_interval

VALUES = st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=30)


def test_the_middle_is_the_mean_and_the_median():
    assert mean_interval([0.0, 0.5, 1.0, 1.0])[0] == 0.625
    assert median_interval([0.0, 0.5, 1.0, 1.0])[0] == 0.75


def test_two_values_have_a_known_distribution():
    # Resampled means of 0 and 1 are 0, 0.5 and 1 with probability 1/4, 1/2 and 1/4.
    assert mean_interval([0.0, 1.0], level=0.95)[1:] == (0.0, 1.0)
    assert mean_interval([0.0, 1.0], level=0.4)[1:] == (0.5, 0.5)


def test_a_normal_sample_has_the_interval_of_the_textbook():
    sample = np.random.default_rng(1).normal(size=400)
    mean, low, high = mean_interval(sample)
    half = 1.96 * sample.std() / 20
    assert low == pytest.approx(mean - half, abs=0.01)
    assert high == pytest.approx(mean + half, abs=0.01)


@settings(deadline=None, max_examples=50)
@given(VALUES, st.randoms(use_true_random=False))
def test_order_does_not_matter_and_the_interval_lies_in_the_data(values, random):
    shuffled = random.sample(values, len(values))
    assume(len(values) > 1)
    mean, low, high = mean_interval(values, resamples=50)
    assert (mean, low, high) == mean_interval(shuffled, resamples=50)
    slack = 1e-9 * max(map(abs, values))
    assert min(values) - slack <= low <= high <= max(values) + slack


def test_many_values_give_the_same_as_their_parts_would():
    sample = np.linspace(0, 1, 10_000)
    mean, low, high = mean_interval(sample, resamples=500)
    assert mean == pytest.approx(0.5)
    assert high - low == pytest.approx(2 * 1.96 * sample.std() / 100, rel=0.15)


@pytest.mark.parametrize("values", [[], [1.0, float("nan")], [float("inf")]])
def test_no_value_and_values_that_are_not_finite_are_refused(values):
    with pytest.raises(ValueError, match="expected finite values"):
        mean_interval(values)


@pytest.mark.parametrize(("resamples", "level"), [(0, 0.95), (10, 0.0), (10, 1.0)])
def test_settings_out_of_range_are_refused(resamples, level):
    with pytest.raises(ValueError, match="level in"):
        mean_interval([1.0], resamples=resamples, level=level)


def test_one_patient_has_no_interval():
    assert mean_interval([0.0]) == median_interval([0.0]) == (0.0, None, None)
    assert mean_interval([0.0]).ends(3) == "of one patient, so without an interval"
    assert mean_interval([0.25, 0.75]).ends(2) == "95% interval 0.25 to 0.75"
