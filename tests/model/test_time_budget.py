"""Pixels a side of the network's input: as asked, else by the device and by what a budget affords."""

from __future__ import annotations

import time
from typing import Any

import pytest
import torch

from slicemill.config import TrainConfig
from slicemill.core.training.schedule import InputSizes
from slicemill.core.training.state import RunState
from slicemill.model.networks.registry import architecture
from slicemill.model.training import time_budget
from slicemill.model.training.learner import input_sizes, make_learner
from slicemill.model.training.ranks import Rank
from slicemill.model.training.time_budget import with_sizes


@pytest.mark.parametrize(
    ("asked", "sizes"),
    [
        ({}, (96, 192)),
        ({"image_size": 128}, (128, 128)),
        ({"image_size": 128, "first_size": 64}, (64, 128)),
        ({"first_size": 32}, (32, 192)),
    ],
)
def test_half_the_size_is_where_a_run_begins_unless_a_size_was_asked_for(
    asked: dict[str, int], sizes: tuple[int, int]
) -> None:
    assert input_sizes(TrainConfig(lake="lake", split="split", out="out", **asked), 192) == InputSizes(*sizes)


# Half of an hour must hold four epochs of the last size: 450 s each, of which one at 128 takes the first
# number; at 192 it takes 2.25 times as long.
@pytest.mark.parametrize(
    ("seconds", "asked", "sizes"),
    [
        (1, {}, (96, 192)),
        (199, {}, (96, 192)),
        (201, {}, (64, 128)),
        (449, {}, (64, 128)),
        (451, {}, (64, 64)),
        (9000, {}, (64, 64)),
        (9000, {"first_size": 96}, (96, 96)),
        (199, {"first_size": 32}, (32, 192)),
        (9000, {"image_size": 192}, (192, 192)),
    ],
)
def test_a_budget_ends_on_the_largest_size_that_it_holds_some_epochs_of(
    make, monkeypatch, seconds: float, asked: dict[str, int], sizes: tuple[int, int]
) -> None:
    settings: dict[str, Any] = {
        "epochs": None,
        "budget_minutes": 60.0,
        "image_size": None,
        "first_size": None,
    }
    plan = make(**{**settings, **asked})
    network = architecture("tiny").build()
    learner = make_learner(plan, Rank(0, 1, torch.device("cpu")), network, "fp32")
    monkeypatch.setattr(time_budget, "step_seconds", lambda learner, size: time.sleep(0.05) or 1.0)
    monkeypatch.setattr(time_budget, "epoch_seconds", lambda learner, step: seconds)

    learner, state = with_sizes(learner, RunState())

    assert state.sizes == learner.execution.sizes == InputSizes(*sizes)
    assert (state.seconds >= 0.05) == ("image_size" not in asked)
