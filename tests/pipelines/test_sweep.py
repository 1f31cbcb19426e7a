from __future__ import annotations

import dataclasses
import json
import os
import signal
import threading
from pathlib import Path
from typing import Any

import pytest
from lake_builder import tiny_scan, write_lake
from pyspark.sql import SparkSession

from slicemill.config import SweepConfig, TrainConfig
from slicemill.core.training.plan import TrainPlan
from slicemill.errors import ConfigError, InputError, TrainingError
from slicemill.io.settings_file import read_settings
from slicemill.io.storage.uri import canonical, local_path
from slicemill.pipelines import sweep

SPACE = "learning_rate: {low: 1e-4, high: 1e-2, log: true}\nbatch_size: [2, 4]\n"


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> SweepConfig:
    base = tmp_path_factory.mktemp("sweep")
    home = canonical(str(base / "lake"))
    parts = {"Pa": "train", "Pb": "val"}
    write_lake(
        home, [tiny_scan(name, 3) for name in "ab"], {"two": parts, "no-val": dict.fromkeys(parts, "train")}
    )
    (base / "space.yaml").write_text(SPACE)
    return SweepConfig(
        lake=home,
        split="two",
        out=canonical(str(base / "study")),
        space=str(base / "space.yaml"),
        trials=2,
        model="monai-unet",
        filters=4,
        epochs=2,
        image_size=32,
        device="cpu",
    )


def trials(config: SweepConfig) -> list[tuple[Any, ...]]:
    told = json.loads((local_path(config.out) / "sweep.json").read_text())
    return [(row["number"], row["state"], row["settings"], row["scores"]) for row in told["trials"]]


@pytest.mark.slow
@pytest.mark.usefixtures("launched_here")
def test_a_study_killed_in_mid_trial_and_resumed_is_the_same_study(
    config: SweepConfig, spark: SparkSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    summary = sweep.run(config, spark)
    killed = dataclasses.replace(config, out=f"{config.out}-killed")
    launch_plan, begun = sweep.launch_plan, list[str]()

    def die_in_the_second(plan: TrainPlan, session: Any) -> dict[str, Any]:
        begun.append(plan.settings.out)
        if len(begun) == 2:
            # No score reaches this floor, so training ends after one of two epochs.
            launch_plan(dataclasses.replace(plan, floors=(9.0,)), session)
            raise KeyboardInterrupt
        return launch_plan(plan, session)

    monkeypatch.setattr(sweep, "launch_plan", die_in_the_second)
    with pytest.raises(KeyboardInterrupt):
        sweep.run(killed, spark)
    again = sweep.run(killed, spark)

    assert [uri.rpartition("/trials/")[2] for uri in begun] == [
        "trial-0000/run",
        "trial-0001/run",
        "trial-0001/run",
    ]
    assert trials(killed) == trials(config)
    assert [row[:2] for row in trials(config)] == [(0, "complete"), (1, "complete")]
    assert all(len(row[3]) == 2 for row in trials(config))
    assert again["best"] == summary["best"]
    _check_outputs(config, summary)


def _check_outputs(config: SweepConfig, summary: dict[str, Any]) -> None:
    best = read_settings(f"{config.out}/best.yaml", TrainConfig)
    assert best == {"model": "monai-unet", "filters": 4, "epochs": 2, "image_size": 32, **summary["best"]}
    assert summary["best_score"] == max(max(row[3]) for row in trials(config))
    for name in ("history", "importance", "slices"):
        assert (local_path(config.out) / "figures" / f"{name}.png").stat().st_size > 1000
    assert not list(local_path(config.out).glob("trials/*/run/checkpoints/*"))


@pytest.mark.slow
def test_an_interrupt_ends_the_trial_at_work_and_begins_no_other(
    config: SweepConfig, spark: SparkSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = dataclasses.replace(config, out=f"{config.out}-interrupted")
    cancelled, begun = threading.Event(), list[str]()

    def train_until_cancelled(plan: TrainPlan, session: Any) -> dict[str, Any]:
        begun.append(plan.settings.out)
        os.kill(os.getpid(), signal.SIGINT)
        assert cancelled.wait(60)
        raise TrainingError("rank 0 died")

    monkeypatch.setattr(sweep, "launch_plan", train_until_cancelled)
    monkeypatch.setattr(type(spark.sparkContext), "cancelAllJobs", lambda context: cancelled.set())
    with pytest.raises(KeyboardInterrupt):
        sweep.run(config, spark)
    assert len(begun) == 1

    def stop(plan: TrainPlan, session: Any) -> dict[str, Any]:
        begun.append(plan.settings.out)
        raise KeyboardInterrupt

    # It did not fail: the next worker takes the same trial up.
    monkeypatch.setattr(sweep, "launch_plan", stop)
    with pytest.raises(KeyboardInterrupt):
        sweep.run(config, spark)
    assert begun[1] == begun[0]


@pytest.mark.slow
def test_a_study_goes_on_only_as_it_began(config: SweepConfig, tmp_path: Path) -> None:
    config = dataclasses.replace(config, out=str(tmp_path / "study"), minutes=1e-9)
    assert sweep.run(config, None)["trials"] == 0
    other = tmp_path / "space.yaml"
    other.write_text("dropout: [0.1, 0.2]\n")

    with pytest.raises(
        ConfigError,
        match=r"holds a study of other settings.*changed: epochs, rules sampler, the search space",
    ):
        sweep.run(dataclasses.replace(config, epochs=3, sampler="random", space=str(other)), None)


def test_a_study_needs_patients_to_judge_by(config: SweepConfig) -> None:
    with pytest.raises(InputError, match="the split no-val has nothing to judge trials by"):
        sweep.run(dataclasses.replace(config, split="no-val"), None)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"trials": None}, "a study needs an end"),
        ({"minutes": 0.0}, "--minutes is out of range"),
        ({"budget_minutes": 1.0}, "--budget-minutes has no meaning in a study"),
        ({"resume": True}, "--resume has no meaning in a study"),
    ],
)
def test_what_can_not_be_a_study_is_said(config: SweepConfig, settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        dataclasses.replace(config, **settings)
