"""Cross-validations and sweeps in MLflow: a parent run, a child a fold or trial, and nothing twice."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from lake_builder import tiny_scan, write_lake
from mlflow import MlflowClient
from pyspark.sql import SparkSession

from slicemill.config import CrossvalConfig, SweepConfig
from slicemill.experiments import folds
from slicemill.io.storage.uri import canonical, local_path
from slicemill.pipelines import crossval, sweep

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("launched_here", "own_network")]

PARENT = "mlflow.parentRunId"
SETTINGS: dict[str, Any] = {
    "model": "tiny_network:tiny_network",
    "epochs": 1,
    "image_size": 32,
    "batch_size": 4,
    "device": "cpu",
    "figures": False,
}


@pytest.fixture
def lake(tmp_path: Path) -> str:
    home = canonical(str(tmp_path / "lake"))
    folds = {"Pa": "fold-0", "Pb": "fold-1", "Pc": "fold-2"}
    splits = {"three": folds, "parts": {"Pa": "train", "Pb": "val"}}
    write_lake(home, [tiny_scan(name, 3) for name in "abc"], splits)
    return home


@pytest.fixture
def store(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/mlflow.db"


def runs(store: str) -> dict[str, Any]:
    """Runs of the experiment by name."""
    client = MlflowClient(tracking_uri=store)
    entries = client.search_runs([client.get_experiment_by_name("study").experiment_id])
    assert len({entry.info.run_name for entry in entries}) == len(entries)
    return {entry.info.run_name: entry for entry in entries}


def history(store: str, entries: dict[str, Any], metric: str) -> list[int]:
    """How often each run was told a metric, by the runs' names in order."""
    client = MlflowClient(tracking_uri=store)
    return [len(client.get_metric_history(entries[name].info.run_id, metric)) for name in sorted(entries)]


def check_family(entries: dict[str, Any], parent: str, children: list[str]) -> None:
    assert sorted(entries) == sorted([parent, *children])
    assert PARENT not in entries[parent].data.tags
    for name in children:
        assert entries[name].data.tags[PARENT] == entries[parent].info.run_id
    assert {entry.info.status for entry in entries.values()} == {"FINISHED"}


def test_folds_are_children_of_a_cross_validation_that_was_killed_and_run_again(
    lake: str, store: str, spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = CrossvalConfig(
        lake=lake,
        split="three",
        out=str(tmp_path / "three-folds"),
        track=f"mlflow:{store}",
        experiment="study",
        **SETTINGS,
    )
    launch_plan = folds.launch_plan

    def die_in_the_second(plan: Any, session: Any) -> Any:
        if plan.settings.fold == 1:
            raise KeyboardInterrupt
        return launch_plan(plan, session)

    with monkeypatch.context() as patch:
        patch.setattr(folds, "launch_plan", die_in_the_second)
        with pytest.raises(KeyboardInterrupt):
            crossval.run(config, spark)
    assert runs(store)["three-folds"].info.status == "FAILED"
    summary = crossval.run(config, spark)
    entries = runs(store)
    check_family(entries, "three-folds", ["fold-0", "fold-1", "fold-2"])
    assert entries["three-folds"].data.metrics["score/mean_patient_dice"] == summary["mean_patient_dice"]
    assert [entries[f"fold-{fold}"].data.metrics["score/mean_patient_dice"] for fold in (0, 1, 2)] == summary[
        "fold_dice"
    ]
    files = {file.path for file in MlflowClient(store).list_artifacts(entries["three-folds"].info.run_id)}
    assert files == {"crossval.json", "crossval.html", "worst.csv"}

    crossval.run(config, spark)
    assert runs(store).keys() == entries.keys()
    assert history(store, runs(store), "score/mean_patient_dice") == [1, 1, 1, 1]


def test_folds_that_were_trained_untracked_are_scored_all_the_same(
    lake: str, store: str, spark: SparkSession, tmp_path: Path
) -> None:
    config = CrossvalConfig(lake=lake, split="three", out=str(tmp_path / "three-folds"), **SETTINGS)
    summary = crossval.run(config, spark)
    later = dataclasses.replace(config, track=f"mlflow:{store}", experiment="study")
    assert crossval.run(later, spark)["fold_dice"] == summary["fold_dice"]
    entries = runs(store)
    check_family(entries, "three-folds", [])
    assert entries["three-folds"].data.metrics["score/mean_patient_dice"] == summary["mean_patient_dice"]


def test_trials_are_children_of_their_study(
    lake: str, store: str, spark: SparkSession, tmp_path: Path
) -> None:
    (tmp_path / "space.yaml").write_text("learning_rate: {low: 1e-4, high: 1e-2, log: true}\n")
    config = SweepConfig(
        lake=lake,
        split="parts",
        out=str(tmp_path / "search"),
        space=str(tmp_path / "space.yaml"),
        trials=2,
        track=f"mlflow:{store}",
        experiment="study",
        run_name="rates",
        **SETTINGS,
    )
    summary = sweep.run(config, spark)
    entries = runs(store)
    check_family(entries, "rates", ["trial-0000", "trial-0001"])
    parent = entries["rates"]
    assert parent.data.metrics["best_score"] == pytest.approx(summary["best_score"])
    assert parent.data.metrics["complete"] == 2
    assert parent.data.tags["slicemill.best_trial"] == str(summary["best_trial"])
    best = entries[f"trial-{summary['best_trial']:04d}"]
    assert best.data.params["learning_rate"] == parent.data.tags["slicemill.best.learning_rate"]

    sweep.run(dataclasses.replace(config, trials=3), spark)
    entries = runs(store)
    check_family(entries, "rates", ["trial-0000", "trial-0001", "trial-0002"])
    assert entries["rates"].info.run_id == parent.info.run_id
    assert history(store, {"rates": entries["rates"]}, "trials") == [2]
    assert local_path(canonical(config.out)).joinpath("tracking.json").exists()


_WORKER = """
import sys
from slicemill.io.run.tracking_store import RunEntry, TrackedRun, parent_run
from slicemill.io.storage.uri import canonical
import mlflow

store, home, number = sys.argv[1:]
parent = RunEntry(store, "study", "search", canonical(f"{home}/tracking.json"), {"epochs": 1})
print("ready", flush=True)
sys.stdin.readline()
with parent_run(parent) as run:
    record = canonical(f"{home}/{number}.json")
    trial = RunEntry(store, "study", f"trial-{number}", record, {}, parent=run.run_id)
    tracked = TrackedRun.begin(trial, "--track", resume=True)
    tracked.client.log_metric(tracked.run_id, "dice", float(number))
    tracked.end(True)
    run.log_result({"trials": 2}, {})
"""


def test_two_workers_of_one_study_begin_at_once_on_a_new_store(store: str, tmp_path: Path) -> None:
    command = [sys.executable, "-c", _WORKER, f"mlflow:{store}", str(tmp_path)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    workers = [subprocess.Popen([*command, str(number)], **pipes) for number in range(2)]
    for worker in workers:
        assert worker.stdout.readline() == "ready\n"
    for worker in workers:
        worker.stdin.write("go\n")
        worker.stdin.flush()
    for worker in workers:
        worker.communicate()
    assert [worker.returncode for worker in workers] == [0, 0]
    entries = runs(store)
    check_family(entries, "search", ["trial-0", "trial-1"])
    assert entries["search"].data.metrics == {"trials": 2}
    assert [entries[f"trial-{number}"].data.metrics["dice"] for number in range(2)] == [0, 1]
