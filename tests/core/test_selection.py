"""Which epoch is published: known histories, and what holds for any."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slicemill.core.training.records import ClassificationMetrics, EpochLine, SegmentationMetrics
from slicemill.core.training.selection import leading_epoch, published_epoch, run_score, worth


def _epoch(*dice: float, size: int = 64, loss: float = 1.0) -> EpochLine:
    by_scan = {f"scan{at}": value for at, value in enumerate(dice)}
    mean = sum(dice) / len(dice) if dice else None
    return EpochLine(1, loss, SegmentationMetrics(mean, by_scan), image_size=size)


@pytest.mark.parametrize(
    ("history", "leader", "published"),
    [
        ([], 0, 0),
        ([_epoch(0.1, 0.2)], 1, 1),
        # Gains of the leader 0.3, -0.1, 0.1: mean 0.1, standard error 0.115.
        ([_epoch(0.8, 0.3, 0.6), _epoch(0.5, 0.4, 0.5)], 1, 2),
        # Gains 0.3, 0.2, 0.1: mean 0.2, standard error 0.058.
        ([_epoch(0.8, 0.7, 0.6), _epoch(0.5, 0.5, 0.5)], 1, 1),
        # Each a little below the one before, by chance; together no longer.
        ([_epoch(0.8, 0.7, 0.6), _epoch(0.8, 0.7, 0.4), _epoch(0.6, 0.5, 0.3)], 1, 2),
        # One scan tells nothing of chance.
        ([_epoch(0.9), _epoch(0.1)], 1, 2),
        # The first of full size is worse, and is soon better.
        ([_epoch(0.9, 0.8), _epoch(0.2, 0.1, size=128)], 2, 2),
        # Without a validation part the lowest training loss.
        ([_epoch(loss=0.5), _epoch(loss=0.4), _epoch(loss=0.6)], 2, 2),
        # A classifier has no Dice by scan.
        (
            [
                EpochLine(1, 1.0, ClassificationMetrics(accuracy=0.6, auroc=0.8)),
                EpochLine(2, 0.5, ClassificationMetrics(accuracy=0.7, auroc=0.7)),
            ],
            1,
            1,
        ),
    ],
)
def test_the_last_is_published_unless_an_earlier_one_was_better_by_more_than_chance(
    history: Sequence[EpochLine], leader: int, published: int
) -> None:
    assert leading_epoch(history) == leader
    assert published_epoch(history) == published


_share = st.floats(0, 1)
_histories = st.lists(
    st.builds(
        lambda dice, size: _epoch(*dice, size=size),
        st.tuples(_share, _share, _share),
        st.sampled_from((64, 128)),
    ),
    min_size=1,
    max_size=12,
)


@given(_histories)
def test_the_choice_can_be_made_as_the_run_goes(history: list[EpochLine]) -> None:
    # Weights are kept only while their epoch is the last.
    kept = 0
    for count in range(1, len(history) + 1):
        if published_epoch(history[:count]) == count:
            kept = count
        assert published_epoch(history[:count]) == kept


@given(_histories)
def test_the_leader_has_the_best_score_and_is_published_or_before_what_is(
    history: list[EpochLine],
) -> None:
    leader = leading_epoch(history)
    assert worth(history[leader - 1]) == max(map(worth, history))
    assert published_epoch(history) >= leader


def test_a_run_is_worth_what_it_publishes_not_the_best_of_its_smaller_pictures() -> None:
    # The numbers of a default sweep that named the wrong trial: 0.66 at half the size, 0.58 in the end.
    flattering = [_epoch(0.66, 0.66), _epoch(0.58, 0.58, size=128)]
    honest = [_epoch(0.60, 0.60), _epoch(0.63, 0.63, size=128)]

    assert run_score(flattering) == pytest.approx(0.58)
    assert run_score(honest) == pytest.approx(0.63)
    assert run_score([]) is None


def test_accuracy_compares_epochs_where_validation_holds_one_class() -> None:
    history = [
        EpochLine(at, 1.0, ClassificationMetrics(accuracy=value)) for at, value in ((1, 0.6), (2, 0.9))
    ]

    assert leading_epoch(history) == 2
