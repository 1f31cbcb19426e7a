from __future__ import annotations

import dataclasses
import json
import logging
from pathlib import Path

import pytest
from lake_builder import tiny_scan, write_lake
from pyspark.sql import SparkSession

from slicemill.config import CompareConfig, CrossvalConfig, TrainConfig
from slicemill.core.training.plan import TrainPlan
from slicemill.errors import ConfigError, InputError
from slicemill.experiments import folds
from slicemill.experiments.folds import fold_config
from slicemill.io.places import Run
from slicemill.io.storage.uri import canonical, local_path
from slicemill.pipelines import compare, crossval

PATIENTS = "abcd"


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory, own_network: str) -> CrossvalConfig:
    home = canonical(str(tmp_path_factory.mktemp("folds") / "lake"))
    folds = {f"P{name}": f"fold-{at % 3}" for at, name in enumerate(PATIENTS)}
    parts = {f"P{name}": part for name, part in zip(PATIENTS, ("train", "train", "val", "test"), strict=True)}
    write_lake(home, [tiny_scan(name, 4) for name in PATIENTS], {"three": folds, "parts": parts})
    return CrossvalConfig(
        lake=home,
        split="three",
        out=canonical(str(tmp_path_factory.mktemp("crossval"))),
        model=own_network,
        epochs=1,
        image_size=32,
        batch_size=4,
        device="cpu",
        figures=False,
        parallel=2,
    )


@pytest.fixture(scope="module")
def finished(config: CrossvalConfig, spark: SparkSession) -> dict[str, object]:
    return crossval.run(config, spark)


def _result(config: CrossvalConfig) -> dict[str, object]:
    found: dict[str, object] = json.loads((local_path(config.out) / "crossval.json").read_text())
    return found


@pytest.mark.slow
def test_each_patient_is_scored_once_by_a_model_that_never_saw_it(
    config: CrossvalConfig, finished: dict[str, object]
) -> None:
    result = _result(config)

    rows = result["out_of_fold"]
    assert [row["patient_id"] for row in rows] == [f"P{name}" for name in PATIENTS]
    assert [row["fold"] for row in rows] == [0, 1, 2, 0]
    assert len({row["model_id"] for row in rows}) == 3
    mean = sum(row["dice"] for row in rows) / 4
    assert result["mean_patient_dice"]["value"] == pytest.approx(mean)
    assert finished["mean_patient_dice"] == pytest.approx(mean)
    assert finished["patients"] == 4
    assert [fold["patients"] for fold in result["folds"]] == [2, 1, 1]
    assert [scan["scan_id"] for scan in result["worst"]] == [
        row["scan_id"] for row in sorted(rows, key=lambda row: (row["dice"], row["scan_id"]))
    ]
    assert result["calibration"]["scans"] == 4
    assert b"The worst scans" in (local_path(config.out) / "crossval.html").read_bytes()
    assert len((local_path(config.out) / "worst.csv").read_text().splitlines()) == 5


def test_folds_at_a_time_share_the_cores(
    config: CrossvalConfig, spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = []

    def noted(trained: TrainConfig, sides: object, threads: int) -> TrainPlan:
        given.append(threads)
        raise InputError("enough", expected="", found="")

    monkeypatch.setattr(folds, "make_plan", noted)
    monkeypatch.setattr("os.sched_getaffinity", lambda process: set(range(12)))
    with pytest.raises(InputError, match="enough"):
        crossval.run(
            dataclasses.replace(config, out=str(tmp_path), parallel=3, num_processes=2, batch_size=4), spark
        )
    assert set(given) == {2}


@pytest.mark.slow
@pytest.mark.usefixtures("finished")
def test_what_is_done_is_not_done_again(
    config: CrossvalConfig, spark: SparkSession, caplog: pytest.LogCaptureFixture
) -> None:
    before = _result(config)

    with caplog.at_level(logging.INFO):
        crossval.run(config, spark)

    assert "fold 0 is trained already" in caplog.text
    assert "fold 2 is trained already" in caplog.text
    assert _result(config) == before


@pytest.mark.slow
@pytest.mark.usefixtures("finished")
def test_a_fold_of_other_settings_is_refused(config: CrossvalConfig, spark: SparkSession) -> None:
    with pytest.raises(ConfigError, match=r"was trained with other settings.*changed: learning_rate"):
        crossval.run(dataclasses.replace(config, learning_rate=1e-4), spark)


@pytest.mark.slow
@pytest.mark.usefixtures("finished")
def test_a_planted_leak_is_refused(config: CrossvalConfig, spark: SparkSession) -> None:
    plan = local_path(Run(fold_config(config, 0).out).plan)
    honest = plan.read_text()
    leaking = json.loads(honest)
    leaking["train"][0][0]["scan_id"] = "a"
    plan.write_text(json.dumps(leaking))

    try:
        with pytest.raises(InputError, match=r"scored patients that it has seen.*Pa"):
            crossval.run(config, spark)
    finally:
        plan.write_text(honest)


def test_a_split_of_parts_has_no_folds(config: CrossvalConfig, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="the split parts has no folds"):
        crossval.run(dataclasses.replace(config, split="parts", out=str(tmp_path)), None)


def test_one_fold_alone_is_a_training_run() -> None:
    with pytest.raises(ConfigError, match="--fold has no meaning over all folds"):
        CrossvalConfig(lake="lake", split="five", out="out", fold=1)


@pytest.mark.slow
@pytest.mark.usefixtures("finished")
def test_what_it_leaves_can_be_compared(config: CrossvalConfig, tmp_path: Path) -> None:
    fold = f"{config.out}/fold-0"
    runs = (f"all={config.out}", f"scores={fold}/scores", f"run={fold}/run")
    compare.run(CompareConfig(out=str(tmp_path), run=runs))

    found = json.loads((tmp_path / "compare.json").read_text())

    result = _result(config)
    assert [line["judged_on"] for line in found["runs"]] == ["out of fold", "scored patients", "validation"]
    assert [line["patients"] for line in found["runs"]] == [4, 2, 1]
    assert found["runs"][0]["mean_patient_dice"] == result["mean_patient_dice"]
    assert found["runs"][1]["mean_patient_dice"]["value"] == result["folds"][0]["mean_patient_dice"]
    assert found["runs"][2]["mean_patient_dice"]["value"] == result["folds"][0]["validation"]["val_dice"]
    assert len({line["parameters"] for line in found["runs"]}) == 1
    assert all(line["training_seconds"] > 0 for line in found["runs"])
    assert all(line["scoring_slices_per_second"] > 0 for line in found["runs"][:2])
    assert result["command"]
    assert len(result["data_hash"]) == 64
