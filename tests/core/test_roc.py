from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slicemill.core.evaluation.roc import roc_curve

PAIRS = st.lists(st.tuples(st.booleans(), st.integers(0, 5)), min_size=2, max_size=30).filter(
    lambda pairs: len({label for label, _ in pairs}) == 2
)


def test_a_small_curve_by_hand():
    truth = np.array([True, False, True, False])
    false_rate, true_rate, area = roc_curve(truth, np.array([0.9, 0.8, 0.7, 0.1]))
    assert false_rate.tolist() == [0, 0, 0.5, 0.5, 1]
    assert true_rate.tolist() == [0, 0.5, 0.5, 1, 1]
    assert area == 0.75


def test_equal_scores_are_one_step():
    truth = np.array([True, False])
    assert roc_curve(truth, np.array([0.5, 0.5]))[2] == 0.5


@given(PAIRS)
def test_the_area_is_the_chance_to_rank_a_pair_rightly(pairs):
    truth = np.array([label for label, _ in pairs])
    score = np.array([float(value) for _, value in pairs])
    difference = score[truth][:, None] - score[~truth][None]
    assert roc_curve(truth, score)[2] == pytest.approx(np.mean((difference > 0) + 0.5 * (difference == 0)))


@pytest.mark.parametrize("truth", [[True, True], [False, False], [True]])
def test_one_class_or_unequal_lengths_are_refused(truth):
    with pytest.raises(ValueError, match="both classes"):
        roc_curve(np.array(truth), np.array([0.1, 0.2]))
