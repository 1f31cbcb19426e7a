"""Which epoch is published: known histories, and what holds for any."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slicemill.core.training.selection import leading_epoch, published_epoch, score


def _epoch(*dice: float, size: int = 64, loss: float = 1.0) -> dict[str, Any]:
    by_scan = {f"scan{at}": value for at, value in enumerate(dice)}
    mean = sum(dice) / len(dice) if dice else None
    return {"val_dice": mean, "val_dice_by_scan": by_scan, "image_size": size, "train_loss": loss}


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
                {"val_auroc": 0.8, "val_accuracy": 0.6, "train_loss": 1.0, "image_size": 64},
                {"val_auroc": 0.7, "val_accuracy": 0.7, "train_loss": 0.5, "image_size": 64},
            ],
            1,
            1,
        ),
    ],
)
def test_the_last_is_published_unless_an_earlier_one_was_better_by_more_than_chance(
    history: Sequence[dict[str, Any]], leader: int, published: int
) -> None:
    assert leading_epoch(history) == leader
    assert published_epoch(history) == published


_share = st.floats(0, 1)
_histories = st.lists(
    st.builds(lambda dice, size: _epoch(*dice, size=size), st.tuples(_share, _share, _share), st.just(64)),
    min_size=1,
    max_size=12,
)


@given(_histories)
def test_the_choice_can_be_made_as_the_run_goes(history: list[dict[str, Any]]) -> None:
    # Weights are kept only while their epoch is the last.
    kept = 0
    for count in range(1, len(history) + 1):
        if published_epoch(history[:count]) == count:
            kept = count
        assert published_epoch(history[:count]) == kept


@given(_histories)
def test_the_leader_has_the_best_score_and_is_published_or_before_what_is(
    history: list[dict[str, Any]],
) -> None:
    leader = leading_epoch(history)
    assert score(history[leader - 1]) == max(map(score, history))
    assert published_epoch(history) >= leader
