"""Studies without training: who gets which trial, and what becomes of one whose worker dies."""

from __future__ import annotations

import dataclasses
import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from slicemill.config import TrainConfig
from slicemill.experiments.search_space import Categorical, Range
from slicemill.experiments.study import Study
from slicemill.io.storage.uri import canonical

SPACE = (Range("learning_rate", 1e-4, 1e-2, log=True), Categorical("batch_size", (8, 16, 32)))
BASE = dataclasses.asdict(TrainConfig(lake="lake", split="split", out="out", model="unet-resnet18"))

_WORKER = """
import sys, time
sys.path.insert(0, {tests!r})
from test_study import study
for _ in range(4):
    with study({home!r}, seed=0).claimed({limit}) as claim:
        if claim is None:
            break
        print(claim.number, flush=True)
        time.sleep({seconds})
        study({home!r}, seed=0).finish(claim.number, [0.1, 0.2], 0.2, pruned=False)
"""


def study(
    home: str, seed: int = 0, space: tuple[Categorical | Range, ...] = SPACE, sampler: str = "tpe"
) -> Study:
    return Study(home, space, BASE, sampler, seed)


def worker(home: str, limit: int, seconds: float) -> subprocess.Popen[str]:
    code = _WORKER.format(tests=str(Path(__file__).parent), home=home, limit=limit, seconds=seconds)
    return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)


def worked(home: str, seed: int, trials: int) -> list[dict[str, object]]:
    """Settings of trials that ended one after another, their score a function of them."""
    found = []
    for _ in range(trials):
        with study(home, seed).claimed(None) as claim:
            assert claim is not None
            value = 1 - abs(claim.settings["learning_rate"] - 3e-3)
            study(home, seed).finish(claim.number, [value], value, False)
            found.append(dict(claim.settings))
    return found


def test_two_workers_at_once_never_run_the_same_trial(tmp_path: Path) -> None:
    home = canonical(str(tmp_path))
    workers = [worker(home, limit=5, seconds=0.3) for _ in range(2)]

    seen = [[int(line) for line in one.communicate(timeout=120)[0].split()] for one in workers]

    assert sorted(seen[0] + seen[1]) == [0, 1, 2, 3, 4]
    assert [trial.state.name for trial in study(home).trials()] == ["COMPLETE"] * 5


def test_a_dead_workers_trial_goes_on_and_a_living_ones_does_not(tmp_path: Path) -> None:
    home = canonical(str(tmp_path))
    dying = worker(home, limit=9, seconds=300)
    assert dying.stdout is not None
    assert int(dying.stdout.readline()) == 0
    with study(home).claimed(None) as other:
        assert other is not None
        assert (other.number, other.taken_over) == (1, False)

        dying.send_signal(signal.SIGKILL)
        dying.wait()
        with study(home).claimed(None) as again:
            assert again is not None
            assert (again.number, again.taken_over) == (0, True)
            assert again.settings == study(home).trials()[0].user_attrs["settings"]


def test_a_trial_whose_worker_died_before_it_had_settings_is_failed(tmp_path: Path) -> None:
    home = canonical(str(tmp_path))
    left = study(home)
    left._study.ask()

    with study(home).claimed(None) as claim:
        assert claim is not None
        assert claim.number == 1
    assert study(home).trials()[0].state.name == "FAIL"
    # Nor does its lock stay with who found it: the trial that was just let go is next.
    with study(home).claimed(None) as again:
        assert again is not None
        assert (again.number, again.taken_over, again.settings) == (1, True, claim.settings)


def test_one_seed_gives_one_study(tmp_path: Path) -> None:
    first, second, other = (
        worked(canonical(str(tmp_path / name)), seed, 13)
        for name, seed in (("first", 1), ("second", 1), ("other", 2))
    )
    assert first == second != other
    # Thirteen trials: the last ones follow the earlier ones' scores.
    assert len({json.dumps(one) for one in first}) == 13


def test_a_study_in_s3_is_the_same(bucket: str, tmp_path: Path) -> None:
    assert worked(bucket, 1, 2) == worked(canonical(str(tmp_path)), 1, 2)


def test_a_grid_is_gone_through_once(tmp_path: Path) -> None:
    space = (Categorical("augment", (True, False)), Categorical("batch_size", (8, 16)))
    seen = []
    while True:
        with study(canonical(str(tmp_path)), 0, space, "grid").claimed(None) as claim:
            if claim is None:
                break
            study(canonical(str(tmp_path)), 0, space, "grid").fail(claim.number, "by hand")
            seen.append((claim.settings["augment"], claim.settings["batch_size"]))
    assert seen == [(True, 8), (True, 16), (False, 8), (False, 16)]


@pytest.mark.parametrize(
    ("model", "drawn"), [("unet-resnet18", ["model"]), ("monai-unet", ["model", "filters"])]
)
def test_a_network_draws_only_what_it_has_a_use_for(tmp_path: Path, model: str, drawn: list[str]) -> None:
    space = (Categorical("model", (model,)), Categorical("filters", (8, 16)))
    with study(canonical(str(tmp_path)), 0, space).claimed(1) as claim:
        assert claim is not None
        assert list(claim.settings) == drawn
