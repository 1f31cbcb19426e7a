from __future__ import annotations

import dataclasses
import io
import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib import colors, image

from slicemill.core.training.plan import TrainPlan
from slicemill.core.training.records import EpochLine, SegmentationMetrics, parse_epochs
from slicemill.errors import ConfigError
from slicemill.io import storage
from slicemill.io.places import Run
from slicemill.io.storage.uri import local_path
from slicemill.model.training import rank_run
from slicemill.model.training.pictures import PREDICTION, TRUTH, draw_curves, draw_examples, example_slices
from slicemill.model.training.tracking import numbers


def _train(plan: TrainPlan, **settings: Any) -> dict[str, Any]:
    storage.remove(Run.of(plan).started)
    plan = dataclasses.replace(plan, settings=dataclasses.replace(plan.settings, **settings))
    return json.loads(rank_run.train(plan.to_json()))


def _metrics(plan: TrainPlan) -> tuple[EpochLine, ...]:
    return parse_epochs(storage.read_bytes(Run.of(plan).metrics).decode())


def _interrupted(plan: TrainPlan, monkeypatch: pytest.MonkeyPatch) -> None:
    """Train, cut off in the second epoch."""
    real = rank_run.train_epoch

    def cut_off(learner: Any, epoch: int, *rest: Any) -> Any:
        if epoch == 1:
            raise KeyboardInterrupt
        return real(learner, epoch, *rest)

    monkeypatch.setattr(rank_run, "train_epoch", cut_off)
    with pytest.raises(KeyboardInterrupt):
        _train(plan)
    monkeypatch.setattr(rank_run, "train_epoch", real)


def _pixels(png: bytes, colour: str) -> int:
    """Pixels of about this colour."""
    found = image.imread(io.BytesIO(png))[..., :3]
    return int((np.abs(found - colors.to_rgb(colour)).max(axis=-1) < 0.08).sum())


def test_each_epoch_that_improves_and_the_last_leave_examples_and_curves(make) -> None:
    plan = make(epochs=4, figures=True)
    _train(plan)

    best, improved = -1.0, {"examples-epoch-004.png"}
    for line in _metrics(plan):
        if line.score > best:
            best = line.score
            improved.add(f"examples-epoch-{line.epoch:03d}.png")
    folder = local_path(Run.of(plan).curves).parent
    assert {path.name for path in folder.iterdir()} == {"curves.png", *improved}
    for path in folder.iterdir():
        assert image.imread(path).std() > 0.05


def test_examples_are_the_largest_tumours_of_the_first_validation_scans(make, tiny_scans) -> None:
    (found,) = example_slices(make())

    (scan,) = [scan for scan in tiny_scans if scan.scan_id == "e"]
    assert found.scan_id == "e"
    assert found.mask.sum() == max(mask.sum() for mask in scan.masks)


def test_an_example_shows_truth_and_prediction_where_there_are_some(make) -> None:
    slices = example_slices(make())
    other = np.zeros_like(slices[0].mask)
    other[5:15, 5:15] = 1

    both = draw_examples(slices, [other], "Epoch 3")
    missed = draw_examples(slices, [np.zeros_like(other)], "Epoch 3")

    assert min(_pixels(both, TRUTH), _pixels(both, PREDICTION)) > 50
    assert _pixels(missed, TRUTH) > 50
    assert _pixels(missed, PREDICTION) == 0


def test_curves_leave_out_what_was_not_measured() -> None:
    line = EpochLine(1, 1.0, learning_rate=1e-3)
    again = dataclasses.replace(line, epoch=2)
    scored = dataclasses.replace(again, validation=SegmentationMetrics(0.5))

    without = image.imread(io.BytesIO(draw_curves([line, again])))
    with_dice = image.imread(io.BytesIO(draw_curves([line, scored])))

    assert with_dice.shape[0] > without.shape[0]


def test_single_scans_have_names_of_their_own() -> None:
    line = EpochLine(2, 0.5, SegmentationMetrics(None, {"a": 1.0, "b": 0.25}), image_size=64, slices=9)

    expected = {"train_loss": 0.5, "image_size": 64.0, "lost_steps": 0.0, "slices": 9.0, "seconds": 0.0}
    assert numbers(line) == {**expected, "val_dice_by_scan/a": 1.0, "val_dice_by_scan/b": 0.25}


def _mlflow_runs(store: str, experiment: str) -> list[Any]:
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=store)
    return list(client.search_runs([client.get_experiment_by_name(experiment).experiment_id]))


@pytest.mark.slow
def test_mlflow_holds_the_run_once_even_if_it_was_interrupted(make, tmp_path, monkeypatch) -> None:
    store = f"sqlite:///{tmp_path}/mlflow.db"
    plan = make(epochs=3, track=f"mlflow:{store}", experiment="sweep", run_name="trial-7")

    _interrupted(plan, monkeypatch)
    (run,) = _mlflow_runs(store, "sweep")
    assert run.info.status == "FAILED"
    _train(plan, resume=True)

    (run,) = _mlflow_runs(store, "sweep")
    assert (run.info.run_name, run.info.status) == ("trial-7", "FINISHED")
    metrics = {name: value for name, value in run.data.metrics.items() if not name.startswith("system/")}
    assert metrics == pytest.approx(numbers(_metrics(plan)[-1]))
    assert run.data.metrics["system/memory_mb"] > 0
    assert run.data.params["learning_rate"] == "0.002"
    assert os.environ["MLFLOW_DISABLE_TELEMETRY"] == "true"


@pytest.mark.slow
def test_mlflow_has_the_model_its_card_and_the_pictures(make, tmp_path) -> None:
    from mlflow import MlflowClient

    store = f"sqlite:///{tmp_path}/mlflow.db"
    plan = make(epochs=2, figures=True, track=f"mlflow:{store}")
    _train(plan)
    (run,) = _mlflow_runs(store, plan.settings.experiment)
    client = MlflowClient(tracking_uri=store)
    home = Run.of(plan)
    for folder, uri in (("model", home.weights), ("model", home.card), ("figures", home.curves)):
        path = client.download_artifacts(run.info.run_id, f"{folder}/{uri.rpartition('/')[2]}", str(tmp_path))
        assert Path(path).read_bytes() == storage.read_bytes(uri)
    pictures = {file.path for file in client.list_artifacts(run.info.run_id, "figures")}
    drawn = {f"figures/{path.name}" for path in local_path(home.figures).iterdir()}
    assert pictures == drawn
    assert (tmp_path / "mlflow.artifacts").is_dir()


def _told(folder: str) -> Mapping[str, list[tuple[int, float]]]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(folder)
    events.Reload()
    return {
        name: [(point.step, point.value) for point in events.Scalars(name)]
        for name in events.Tags()["scalars"]
    }


def test_tensorboard_shows_every_epoch_once_even_if_the_run_was_interrupted(make, monkeypatch) -> None:
    plan = make(epochs=3, tensorboard=True)

    _interrupted(plan, monkeypatch)
    _train(plan, resume=True)

    told = _told(str(local_path(Run.of(plan).tensorboard)))
    lines = _metrics(plan)
    layers = {name for name in told if name.startswith("gradient_norm/")}
    assert told.keys() - layers == numbers(lines[0]).keys()
    assert layers
    for name in layers:
        assert [step for step, _ in told[name]] == [1, 2, 3]
        assert all(np.isfinite(norm) and norm > 0 for _, norm in told[name])
    assert told["train_loss"] == [(line.epoch, pytest.approx(line.train_loss)) for line in lines]


def test_tensorboard_files_of_a_run_in_s3_are_there_too(make, bucket: str, tmp_path) -> None:
    plan = make(epochs=2, tensorboard=True, out=f"{bucket}/run")
    _train(plan)

    (tmp_path / "copy").mkdir()
    for file in storage.list_files(Run(f"{bucket}/run").tensorboard):
        (tmp_path / "copy" / file.uri.rpartition("/")[2]).write_bytes(storage.read_bytes(file.uri))
    assert [step for step, _ in _told(str(tmp_path / "copy"))["train_loss"]] == [1, 2]


def test_a_package_that_is_not_there_is_named_with_what_to_do(make, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "mlflow", None)
    plan = make(track="mlflow:sqlite:////nowhere/mlflow.db")

    assert _train(plan) == {}

    reason = storage.read_json(Run.of(plan).failure(0))
    assert (reason["kind"], reason["expected"]) == ("MachineError", "mlflow-skinny")
    assert "slicemill[track]" in reason["advice"]


def test_only_mlflow_is_known(make) -> None:
    with pytest.raises(ConfigError, match=r"--track.*mlflow:URI"):
        make(track="wandb:online")
