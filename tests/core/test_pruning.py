from __future__ import annotations

import numpy as np
import optuna
import pytest

from slicemill.core.training.pruning import floors, gives_up
from slicemill.core.training.records import EpochLine, SegmentationMetrics


def test_below_five_finished_trials_none_is_given_up() -> None:
    assert floors([[0.5, 0.5]] * 4, 3, 1) == ()


def test_the_floor_is_the_median_of_an_epoch_and_the_first_epochs_have_none() -> None:
    finished = [[0.1, 0.5], [0.2, 0.4], [0.3, 0.3], [0.4, 0.2], [0.5, 0.1], [0.6]]

    assert floors(finished, 3, after=1) == (pytest.approx(0.35), pytest.approx(0.3))
    assert floors(finished, 3, after=2) == (None, pytest.approx(0.3))
    assert floors(finished, 1, after=1) == ()


def test_the_rule_is_that_of_optuna() -> None:
    draw = np.random.default_rng(0)
    study = optuna.create_study(direction="maximize")
    pruner = optuna.pruners.MedianPruner(n_startup_trials=5, n_warmup_steps=2)
    finished = draw.random((6, 5)).round(3).tolist()
    for scores in finished:
        told = dict(enumerate(scores, start=1))
        study.add_trial(optuna.trial.create_trial(value=max(scores), intermediate_values=told))
    limits = (*floors(finished, 5, after=2), None)
    for scores in draw.random((40, 5)).round(3):
        trial = study.ask()
        for epoch, score in enumerate(scores, start=1):
            trial.report(score, epoch)
            frozen = study.trials[trial.number]
            floor = limits[epoch - 1]
            if epoch < 5:
                assert pruner.prune(study, frozen) == (floor is not None and scores[:epoch].max() < floor)
        study.tell(trial, state=optuna.trial.TrialState.FAIL)


def _history(*epochs: tuple[float, int]) -> list[EpochLine]:
    return [
        EpochLine(at, 1.0, SegmentationMetrics(dice), image_size=size)
        for at, (dice, size) in enumerate(epochs, start=1)
    ]


def test_a_trial_is_given_up_by_its_leading_epoch_whatever_smaller_pictures_scored() -> None:
    limits = (None, 0.6)

    # 0.66 at half the size does not save an epoch of full size below the floor.
    assert gives_up(_history((0.66, 64), (0.58, 128)), limits)
    assert not gives_up(_history((0.66, 64), (0.61, 128)), limits)
    # Of one size the best epoch so far counts.
    assert not gives_up(_history((0.66, 64), (0.58, 64)), limits)


def test_a_trial_goes_on_where_there_is_no_floor() -> None:
    assert not gives_up([], (0.9,))
    assert not gives_up(_history((0.1, 64)), (None, 0.6))
    assert not gives_up(_history((0.1, 64), (0.1, 64), (0.1, 64)), (None, 0.6))
