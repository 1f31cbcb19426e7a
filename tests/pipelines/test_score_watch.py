"""What a scheduled run meets: folders still being written, folders that grow, many that are done, damage."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import time
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
from lock_holder import held_fence
from pyspark.sql import SparkSession
from raw_builder import SCAN_IDS, write_raw, write_scan
from run_builder import write_run

from slicemill.config import IngestConfig, ScoreConfig, SplitConfig
from slicemill.core.profiles.drift import training_profile
from slicemill.core.scans.discovery import FoundFile, discover
from slicemill.errors import ConfigError, InputError, MachineError
from slicemill.io import storage
from slicemill.io.lake.reader import read_scans
from slicemill.io.parquet import write_small
from slicemill.io.places import Scores
from slicemill.io.run.card import load_card, save_card
from slicemill.io.scores.source import CHANGED, SCORED, RawSource, ScoreTask
from slicemill.io.scores.writer import ScoreWriter
from slicemill.io.storage.uri import canonical
from slicemill.model.predicting.settings import ScoreSettings
from slicemill.pipelines import ingest, score, split, verify
from slicemill.schemas import SCORED_PATIENTS
from slicemill.spark.score import score_scans


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("run")
    write_run(canonical(str(home)), size=32)
    return home


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    return write_raw(tmp_path / "raw")


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "scores"


@pytest.fixture(autouse=True)
def _no_master(monkeypatch: pytest.MonkeyPatch) -> None:
    """Little work is done in this process, as on a workstation."""
    monkeypatch.delenv("SLICEMILL_MASTER", raising=False)


def run(model: object, raw: object, out: object, **more: Any) -> dict[str, Any]:
    return score.run(ScoreConfig(model=str(model), out=str(out), raw=(str(raw),), **more))


def patients(out: Path) -> dict[str, dict[str, Any]]:
    return {row["scan_id"]: row for row in pq.read_table(out / "patients" / "part-0.parquet").to_pylist()}


def masks(out: Path) -> dict[str, bytes]:
    return {str(path.relative_to(out)): path.read_bytes() for path in sorted(out.glob("masks*/**/*.tif"))}


def test_folders_wait_for_their_marker(model: Path, raw: Path, out: Path) -> None:
    (raw / SCAN_IDS[1] / "_READY").touch()
    first = run(model, raw, out, ready_marker="_READY")
    assert (first["scans"], first["scored"], first["waiting"]) == (3, 1, 2)
    for scan_id in SCAN_IDS:
        (raw / scan_id / "_READY").touch()
    second = run(model, raw, out, ready_marker="_READY")
    assert (second["scored"], second["waiting"], second["skipped_done"]) == (2, 0, 1)


def test_folders_wait_until_they_are_quiet(model: Path, raw: Path, out: Path) -> None:
    later = time.time() + 600
    for scan_id in SCAN_IDS[1:]:
        os.utime(raw / scan_id / f"{scan_id}_4.tif", (later, later))
    found = run(model, raw, out, quiet_minutes=1e-4)
    assert (found["scored"], found["waiting"]) == (1, 2)
    assert set(patients(out)) == {SCAN_IDS[0]}


def test_a_folder_that_grew_while_it_was_read_is_left_for_the_next_run(
    spark: SparkSession, model: Path, raw: Path, out: Path
) -> None:
    home = canonical(str(out))
    files = storage.list_files(canonical(str(raw)))
    listed = discover([FoundFile(file.uri, file.size, file.version) for file in files], re.compile("")).scans
    tasks = [
        ScoreTask(one.scan_id, one.fingerprint, "k", one.size, len(one.slices), RawSource(one))
        for one in listed
    ]
    write_scan(raw, SCAN_IDS[1], slices=5)
    card = load_card(canonical(str(model)))
    settings = ScoreSettings(
        canonical(str(model)), card.model_id, 0.5, device="cpu", precision="fp32", batch_size=4
    )
    outcomes = score_scans(spark, tasks, settings, ScoreWriter(held_fence(home), "masks", "m", "job"), 10_000)
    assert {outcome.scan_id: outcome.state for outcome in outcomes} == {
        SCAN_IDS[0]: SCORED,
        SCAN_IDS[1]: CHANGED,
        SCAN_IDS[2]: SCORED,
    }
    assert {path.name.partition("--")[0] for path in (out / "manifest").iterdir()} == {
        SCAN_IDS[0],
        SCAN_IDS[2],
    }
    assert not (out / "masks" / SCAN_IDS[1]).exists()


def test_one_slice_and_five_hundred(model: Path, out: Path, tmp_path: Path) -> None:
    write_scan(tmp_path / "raw", SCAN_IDS[0], slices=1, side=16)
    write_scan(tmp_path / "raw", SCAN_IDS[1], slices=500, side=16, masks=False)
    assert run(model, tmp_path / "raw", out)["slices"] == 501
    assert len(list((out / "masks" / SCAN_IDS[1]).iterdir())) == 500


def test_ten_thousand_done_scans_are_not_read_again(model: Path, out: Path, tmp_path: Path) -> None:
    raw, home = tmp_path / "raw", canonical(str(out))
    for number in range(10_000):
        name = f"TEST_OLD_{number:05}_20200101"
        (raw / name).mkdir(parents=True)
        (raw / name / f"{name}_1.tif").write_bytes(b"?")
    card = load_card(canonical(str(model)))
    settings = ScoreSettings(canonical(str(model)), card.model_id, 0.5)
    files = [FoundFile(file.uri, file.size, file.version) for file in storage.list_files(canonical(str(raw)))]
    rows = []
    (out / "manifest").mkdir(parents=True)
    for scan in discover(files, re.compile("")).scans:
        name = f"{scan.scan_id}--{settings.entry_key(scan.fingerprint)}.parquet"
        # Neither the scans nor their entries can be read: whoever tries fails.
        (out / "manifest" / name).write_bytes(b"not Parquet")
        rows.append(_row(scan.scan_id, name, card.model_id))
    write_small(Scores(home).patients, SCORED_PATIENTS, rows)
    for number in range(20):
        write_scan(raw, f"TEST_NEW_{number:05}_20200101", slices=1, side=16)
    found = run(model, raw, out)
    assert (found["scans"], found["scored"], found["skipped_done"]) == (10_020, 20, 10_000)
    assert len(patients(out)) == 10_020


def _row(scan_id: str, name: str, model_id: str) -> dict[str, Any]:
    """A row of the patients table, empty as far as it may be."""
    row: dict[str, Any] = {
        column.name: [] if column.repeated else 0 for column in SCORED_PATIENTS.columns if not column.nullable
    }
    return row | {
        "scan_id": scan_id,
        "patient_id": scan_id,
        "model_id": model_id,
        "manifest": name,
        "schema_version": 1,
    }


def test_verify_names_what_is_missing_and_what_has_changed(model: Path, raw: Path, out: Path) -> None:
    run(model, raw, out)
    check = ScoreConfig(out=str(out), verify=True)
    good = verify.run(check)
    # Four masks and a table a scan.
    assert (good["status"], good["verified_scans"], good["verified_outputs"]) == ("done", 3, 15)
    gone, other = sorted(masks(out))[:2]
    (out / gone).unlink()
    (out / other).write_bytes(b"other")
    bad = verify.run(check)
    assert (bad["status"], bad["missing"], bad["changed"]) == ("data_short", 1, 1)
    assert bad["named"] == [gone, other]


def test_verify_of_nothing_is_an_error(out: Path) -> None:
    with pytest.raises(InputError, match="holds no scores"):
        verify.run(ScoreConfig(out=str(out), verify=True))


def test_options_are_named_and_change_the_key(model: Path, raw: Path, out: Path) -> None:
    run(model, raw, out)
    plain = masks(out)
    asked = {"tta": "flips", "components": "largest", "smoothing": "slices"}
    assert run(model, raw, out, **asked)["scored"] == 3
    assert {tuple(row["options"]) for row in patients(out).values()} == {
        ("flips", "smooth-slices", "largest-component")
    }
    assert masks(out) != plain
    assert run(model, raw, out, **asked)["scored"] == 0
    assert run(model, raw, out)["scored"] == 3
    assert masks(out) == plain


def test_drift_is_said_in_the_warnings(
    spark: SparkSession, model: Path, raw: Path, out: Path, tmp_path: Path
) -> None:
    ingest.run(IngestConfig(raw=(str(raw),), lake=str(tmp_path / "lake")), spark)
    profile = training_profile([row.appearance for row in read_scans(canonical(str(tmp_path / "lake")))])
    trained = canonical(str(tmp_path / "trained"))
    card = write_run(trained, size=32)
    save_card(trained, dataclasses.replace(card, training_profile=profile))
    write_scan(raw, "TEST_DD_0004_20200104", slices=2, side=48)
    found = run(trained, raw, out)
    assert found["scans_with_warnings"] == 1
    warnings = {scan: row["warnings"] for scan, row in patients(out).items()}
    assert warnings["TEST_DD_0004_20200104"] == ["slices are 48x48, in training 32x32"]
    assert warnings[SCAN_IDS[0]] == []
    assert found["new_scans_with_warnings"] == 1
    # The scan stays in its folder, and is no news the next night.
    again = run(trained, raw, out)
    assert (again["scans_with_warnings"], again["new_scans_with_warnings"]) == (1, 0)
    assert again["new_scans_to_look_at_first"] == 0


def test_a_split_is_evaluated_and_two_models_are_compared(
    spark: SparkSession, model: Path, raw: Path, out: Path, tmp_path: Path
) -> None:
    home = str(tmp_path / "lake")
    ingest.run(IngestConfig(raw=(str(raw),), lake=home), spark)
    split.run(SplitConfig(lake=home, name="all", fractions="0,0,1"))
    first = ScoreConfig(model=str(model), out=str(out), lake=home, split="all")
    summary = score.run(first)
    stored = json.loads((out / "summary.json").read_text())
    assert (stored["split"], stored["part"], stored["scans_with_truth"]) == ("all", "test", 3)
    interval = stored["mean_patient_dice"]
    assert interval["low"] <= interval["value"] <= interval["high"]
    assert summary["mean_patient_dice"] == interval["value"]
    dice = sorted(row["dice"] for row in patients(out).values())
    assert [one["dice"] for one in stored["worst"]] == dice
    card = write_run(canonical(str(tmp_path / "second")), seed=1, size=32)
    second = ScoreConfig(
        model=str(tmp_path / "second"), out=str(out), lake=home, split="all", compare_with=str(out)
    )
    found = score.run(second)["comparison"]
    other = json.loads((out / f"summary-{card.model_id}.json").read_text())
    assert found["model_id"] == stored["model_id"]
    assert found["patients"] == 3
    expected = other["mean_patient_dice"]["value"] - interval["value"]
    assert found["mean_difference"]["value"] == pytest.approx(expected)
    assert json.loads((out / "summary.json").read_text()) == stored


def test_a_scan_that_can_not_be_read_does_not_stop_the_others(
    spark: SparkSession, model: Path, raw: Path, out: Path, tmp_path: Path
) -> None:
    home = tmp_path / "lake"
    ingest.run(IngestConfig(raw=(str(raw),), lake=str(home)), spark)
    split.run(SplitConfig(lake=str(home), name="all", fractions="0,0,1"))
    (data,) = home.glob(f"slices/*/{SCAN_IDS[1]}.parquet")
    kept = data.read_bytes()
    data.unlink()
    config = ScoreConfig(model=str(model), out=str(out), lake=str(home), split="all")
    found = score.run(config)
    assert (found["status"], found["scored"], found["failed"]) == ("failed", 2, 1)
    assert SCAN_IDS[1] in found["error"]
    data.write_bytes(kept)
    again = score.run(config)
    assert (again["status"], again["scored"], again["skipped_done"]) == ("done", 1, 2)


def test_a_model_that_is_replaced_in_its_place_is_noticed_by_workers_that_knew_the_old(
    spark: SparkSession, raw: Path, out: Path, tmp_path: Path
) -> None:
    home = canonical(str(tmp_path / "run"))
    first = write_run(home, size=32)
    score.run(ScoreConfig(model=home, out=str(out), raw=(str(raw),)), spark)
    second = write_run(home, seed=1, size=32)
    assert score.run(ScoreConfig(model=home, out=str(out), raw=(str(raw),)), spark)["scored"] == 3
    run(home, raw, tmp_path / "fresh")
    by_second = {path.name: path.read_bytes() for path in out.glob(f"masks-{second.model_id}/**/*.tif")}
    by_first = {path.name: path.read_bytes() for path in out.glob("masks/**/*.tif")}
    assert first.model_id != second.model_id
    assert len(by_second) == 12
    assert by_second != by_first
    assert by_second == {path.name: path.read_bytes() for path in tmp_path.glob("fresh/masks/**/*.tif")}


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_device_that_is_not_there_is_one_clear_line(model: Path, raw: Path, out: Path) -> None:
    with pytest.raises(MachineError, match="no GPU is seen") as caught:
        run(model, raw, out, device="cuda")
    assert "\n" not in str(caught.value)


def test_flags_are_checked() -> None:
    with pytest.raises(ConfigError, match="--model is missing"):
        ScoreConfig(out="x", raw=("a",))
    with pytest.raises(ConfigError, match="--ready-marker"):
        ScoreConfig(out="x", model="m", raw=("a",), ready_marker="a/b")
    with pytest.raises(ConfigError, match="--quiet-minutes"):
        ScoreConfig(out="x", model="m", raw=("a",), quiet_minutes=-1)


def test_the_card_decides_about_options(raw: Path, out: Path, tmp_path: Path) -> None:
    model = tmp_path / "run"
    home = canonical(str(model))
    write_run(home, size=32)
    options = ("flips", "smooth-slices", "largest-component")
    save_card(home, dataclasses.replace(load_card(home), options=options))
    run(model, raw, out)
    assert {tuple(row["options"]) for row in patients(out).values()} == {options}
    run(model, raw, out, components="all", smoothing="none", tta="none")
    assert {tuple(row["options"]) for row in patients(out).values()} == {()}
