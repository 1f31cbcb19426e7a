"""A network in int8 is stored only if it costs little Dice, and scores only as what was judged."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lake_builder import tiny_scan, write_lake
from run_builder import write_run

import slicemill
from slicemill.config import PredictConfig, QuantiseConfig, ScoreConfig
from slicemill.core.evaluation.seen import patient_hash
from slicemill.errors import ConfigError, InputError, MachineError, ModelFileError
from slicemill.experiments.training import clear_run
from slicemill.io import storage
from slicemill.io.lake.reader import read_lake_scan, read_scans
from slicemill.io.places import Run
from slicemill.io.run.card import load_card, save_card, sha256
from slicemill.io.run.quantisation import read_quantised
from slicemill.io.storage.uri import canonical
from slicemill.model.predicting import quantising
from slicemill.model.predicting.engines import onnx_engine
from slicemill.model.predicting.predictor import NetworkPredictor
from slicemill.model.predicting.settings import ScoreSettings

WIDE_OPEN = {"max_loss": 1.0, "max_scan_loss": 1.0}


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> str:
    home = canonical(str(tmp_path_factory.mktemp("lake")))
    scans = [tiny_scan(name, 4) for name in ("A", "B", "C")]
    write_lake(home, scans, {"first": {"PA": "train", "PB": "val", "PC": "val"}})
    return home


@pytest.fixture(scope="module")
def quantised(lake: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, dict[str, Any]]:
    """A run that was quantised, to be read only, and the summary."""
    run = canonical(str(tmp_path_factory.mktemp("run")))
    write_run(run, name="unet-lite0")
    return run, slicemill.quantise(QuantiseConfig(model=run, lake=lake, split="first", **WIDE_OPEN))


@pytest.fixture
def run(quantised: tuple[str, dict[str, Any]], tmp_path: Path) -> str:
    """A copy of it."""
    copy = canonical(str(tmp_path / "run"))
    for file in storage.list_files(quantised[0]):
        storage.write_bytes(f"{copy}/{file.uri.rsplit('/', 1)[1]}", storage.read_bytes(file.uri))
    return copy


def _probabilities(run: str, lake: str, precision: str) -> tuple[np.ndarray, str]:
    scan = read_lake_scan(lake, read_scans(lake)[0])
    predictor = NetworkPredictor.load(run, "cpu", precision, threads=1)
    images = np.stack([entry.image for entry in scan.slices])
    numbers = np.tile(np.float32([0, 255, 100, 50]), (len(images), 3, 1))
    return predictor.predict(images, numbers), predictor.engine.facts.precision


def test_it_is_judged_stored_and_scored_by(quantised: tuple[str, dict[str, Any]], lake: str) -> None:
    run, summary = quantised
    data, stored = read_quantised(run, load_card(run))

    assert (summary["status"], summary["scans"]) == ("done", 2)
    assert stored.file_sha256 == sha256(data)
    assert (stored.split, stored.part, stored.dice) == ("first", "val", summary["dice"])
    assert len(data) < len(storage.read_bytes(Run(run).weights)) / 2
    (fp32, _), (int8, precision) = (_probabilities(run, lake, name) for name in ("fp32", "int8"))
    assert precision == "int8"
    assert np.abs(fp32 - int8).max() > 0
    assert ((fp32 >= 0.5) != (int8 >= 0.5)).mean() < 0.1


@pytest.mark.parametrize(
    ("dice_int8", "limits", "words"),
    [
        ((0.80, 0.90), {"max_scan_loss": 1.0}, "0.0500 of the mean Dice, more than --max-loss 0.002"),
        ((0.80, 1.00), {"max_scan_loss": 0.05}, "0.1000 of one scan's Dice, more than --max-scan-loss 0.05"),
    ],
)
def test_more_loss_than_was_allowed_stores_nothing(
    dice_int8: tuple[float, float],
    limits: dict[str, float],
    words: str,
    lake: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = canonical(str(tmp_path / "run"))
    write_run(run, name="unet-lite0")
    left = iter(dice_int8)

    def dice(run: str, scan: object, predictor: NetworkPredictor, speed: object) -> float:
        return 0.9 if predictor.engine.facts.precision == "fp32" else next(left)

    monkeypatch.setattr(quantising, "_dice", dice)
    summary = slicemill.quantise(QuantiseConfig(model=run, lake=lake, split="first", **limits))

    assert summary["status"] == "data_short"
    assert words in summary["error"]
    assert not storage.exists(Run(run).quantised)
    assert not storage.exists(Run(run).quantisation)


def _without(uri: str) -> None:
    storage.remove(uri)


def _edited(uri: str, **values: object) -> None:
    storage.write_json(uri, json.loads(storage.read_bytes(uri)) | values)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda run: _without(run.quantisation), "has not been quantised"),
        (lambda run: _edited(run.quantisation, model_id="0" * 16), "is of other weights"),
        (lambda run: _edited(run.quantisation, schema_version=99), "does not say what quantise writes"),
        (lambda run: storage.write_bytes(run.quantisation, b"[]"), "does not say what quantise writes"),
        (
            lambda run: storage.write_bytes(run.quantised, storage.read_bytes(run.quantised) + b"\0"),
            "is not the file that was judged",
        ),
        (
            lambda run: _edited(run.quantisation, self_test={"size": 64, "logits": [1e3] * 64}),
            "in int8 fails its self-test",
        ),
    ],
    ids=["none", "other weights", "later schema", "junk", "other file", "other arithmetic"],
)
def test_what_was_not_judged_does_not_score(damage: Any, words: str, run: str) -> None:
    damage(Run(run))
    with pytest.raises(ModelFileError, match=words):
        NetworkPredictor.load(run, "cpu", "int8", threads=1)


def test_a_model_without_int8_is_refused_before_any_scan_is_read(run: str, tmp_path: Path, lake: str) -> None:
    storage.remove(Run(run).quantisation)
    config = ScoreConfig(
        model=run, lake=lake, split="first", part="val", out=str(tmp_path / "scores"), precision="int8"
    )
    with pytest.raises(ModelFileError, match="has not been quantised"):
        slicemill.score(config)
    assert not (tmp_path / "scores").exists()


@pytest.mark.parametrize(
    ("change", "found"),
    [({"members": ("a", "b")}, "a committee"), ({"task": "classify"}, "a network to classify")],
)
def test_what_can_not_be_quantised(
    change: dict[str, Any], found: str, run: str, lake: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from slicemill.pipelines.deployment import quantise as verb

    reference = verb.open_model(run)
    changed = dataclasses.replace(reference, card=dataclasses.replace(reference.card, **change))
    monkeypatch.setattr(verb, "open_model", lambda model: changed)
    with pytest.raises(ConfigError, match="can't be quantised") as error:
        slicemill.quantise(QuantiseConfig(model=run, lake=lake, split="first"))
    assert error.value.found == found


def test_a_part_without_masks_judges_nothing(run: str, tmp_path: Path) -> None:
    home = canonical(str(tmp_path / "lake"))
    scans = [tiny_scan("A", 2), tiny_scan("B", 2, unlabelled=(0, 1))]
    write_lake(home, scans, {"first": {"PA": "train", "PB": "val"}})
    with pytest.raises(InputError, match="has no labelled scans"):
        slicemill.quantise(QuantiseConfig(model=run, lake=home, split="first"))


def test_without_onnx_runtime(run: str, lake: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_engine, "onnx_version", lambda: None)
    with pytest.raises(MachineError, match="ONNX Runtime is not installed"):
        slicemill.quantise(QuantiseConfig(model=run, lake=lake, split="first"))
    with pytest.raises(MachineError, match="ONNX Runtime is not installed"):
        NetworkPredictor.load(run, "cpu", "int8", threads=1)


@pytest.mark.parametrize("settings", [{"engine": "torch"}, {"device": "cuda"}])
def test_int8_is_for_onnx_runtime_on_a_cpu(settings: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match="does not go with"):
        PredictConfig(("scan",), model="run", out="out", precision="int8", **settings)


def test_patients_that_were_trained_on_do_not_judge(run: str, lake: str) -> None:
    card = load_card(run)
    save_card(run, dataclasses.replace(card, patients={"train": (patient_hash("PB"),), "val": ()}))
    with pytest.raises(ConfigError, match="was trained on patients of the part val") as error:
        slicemill.quantise(QuantiseConfig(model=run, lake=lake, split="first"))
    assert error.value.found == "1 patients"


def test_the_training_part_does_not_judge() -> None:
    with pytest.raises(ConfigError, match="--part"):
        QuantiseConfig(model="run", lake="lake", split="first", part="train")


def test_scans_scored_in_int8_are_scored_anew_in_another_arithmetic() -> None:
    keys = {
        precision: ScoreSettings("run", "0" * 16, 0.5, precision=precision).entry_key("print")
        for precision in ("auto", "fp32", "bf16", "int8")
    }
    assert keys["auto"] == keys["fp32"] == keys["bf16"] != keys["int8"]


def test_a_training_that_begins_anew_removes_it(run: str) -> None:
    clear_run(Run(run))
    assert not storage.exists(Run(run).quantised)
    assert not storage.exists(Run(run).quantisation)
