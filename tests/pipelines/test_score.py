from __future__ import annotations

import csv
import dataclasses
import hashlib
import json
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image
from pyspark.sql import SparkSession
from raw_builder import SCAN_IDS, write_raw, write_scan
from report_builder import write_lake
from run_builder import write_run

from slicemill.config import IngestConfig, PredictConfig, ScoreConfig, SplitConfig
from slicemill.core.evaluation.dice import scan_scores
from slicemill.errors import BusyError, ConfigError, LakeVersionError, ModelFileError
from slicemill.experiments.scoring import HERE_SLICES, runs_here
from slicemill.io import storage
from slicemill.io.scores import progress as score_progress
from slicemill.io.scores.progress import progress_line
from slicemill.io.scores.source import LakeSource, ScoreTask
from slicemill.io.storage.lock import sole_writer
from slicemill.io.storage.uri import canonical
from slicemill.pipelines import ingest, score, split


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("run")
    write_run(canonical(str(home)))
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


def patients(out: Path) -> list[dict[str, Any]]:
    return pq.read_table(out / "patients" / "part-0.parquet").to_pylist()


def slice_rows(out: Path) -> list[dict[str, Any]]:
    rows = pq.read_table(out / "slices").to_pylist()
    return sorted(rows, key=lambda row: (row["scan_id"], row["slice_index"]))


def outputs(out: Path) -> dict[str, str]:
    """Every mask and slices file by its hash."""
    found = [*out.glob("masks*/**/*.tif"), *out.glob("slices/**/*.parquet")]
    return {
        str(path.relative_to(out)): hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(found)
    }


def test_masks_tables_and_csv_say_the_same(model: Path, raw: Path, out: Path) -> None:
    summary = run(model, raw, out)
    counts = ("status", "scans", "slices", "scored", "skipped_done", "quarantined")
    assert [summary[name] for name in counts] == ["done", 3, 12, 3, 0, 0]
    by_scan: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {}
    for row in slice_rows(out):
        scan, number = row["scan_id"], row["slice_index"]
        with Image.open(out / "masks" / scan / f"{scan}_{number}_pred.tif") as picture:
            predicted = np.asarray(picture)
        assert predicted.dtype == np.uint8
        assert set(np.unique(predicted)) <= {0, 255}
        packed = np.unpackbits(np.frombuffer(row["mask"], np.uint8), count=32 * 32).reshape(32, 32)
        assert np.array_equal(packed, predicted > 0)
        assert row["tumour_pixels"] == packed.sum()
        with Image.open(raw / scan / f"{scan}_{number}_mask.tif") as picture:
            by_scan.setdefault(scan, []).append((packed, np.asarray(picture) > 0))
    with (out / "patients.csv").open() as file:
        in_csv = {row["scan_id"]: row for row in csv.DictReader(file)}
    for row in patients(out):
        predicted, true = (np.stack(masks) for masks in zip(*by_scan[row["scan_id"]], strict=True))
        expected = scan_scores(predicted, true.astype(np.uint8))
        assert row["dice"] == pytest.approx(expected.dice)
        assert row["slice_mean_dice"] == pytest.approx(expected.slice_mean_dice)
        assert (row["predicted_volume"], row["true_volume"]) == (predicted.sum(), true.sum())
        assert float(in_csv[row["scan_id"]]["dice"]) == pytest.approx(expected.dice, rel=1e-5)
    mean = np.mean([row["dice"] for row in patients(out)])
    assert summary["mean_patient_dice"] == pytest.approx(mean)


def test_the_raw_way_and_the_lake_way_give_the_same_masks(
    spark: SparkSession, model: Path, raw: Path, out: Path, tmp_path: Path
) -> None:
    run(model, raw, out)
    lake = str(tmp_path / "lake")
    ingest.run(IngestConfig(raw=(str(raw),), lake=lake), spark)
    split.run(SplitConfig(lake=lake, name="all", fractions="0,0,1"))
    by_lake = ScoreConfig(model=str(model), out=str(tmp_path / "other"), lake=lake, split="all")
    assert score.run(by_lake)["slices"] == 12
    assert outputs(tmp_path / "other") == outputs(out)


def test_run_again_there_is_nothing_to_do(model: Path, raw: Path, out: Path) -> None:
    first = run(model, raw, out)
    before = outputs(out)
    again = run(model, raw, out)
    assert (again["scored"], again["skipped_done"], again["slices_per_second"]) == (0, 3, None)
    assert again["mean_patient_dice"] == first["mean_patient_dice"]
    assert outputs(out) == before


def test_only_new_and_changed_scans_are_scored(model: Path, raw: Path, out: Path) -> None:
    run(model, raw, out)
    write_scan(raw, "TEST_DD_0004_20200104", slices=2)
    (raw / SCAN_IDS[0] / f"{SCAN_IDS[0]}_4.tif").unlink()
    (raw / SCAN_IDS[0] / f"{SCAN_IDS[0]}_4_mask.tif").unlink()
    summary = run(model, raw, out)
    assert (summary["scored"], summary["skipped_done"], summary["slices"]) == (2, 2, 13)
    masks = {path.name for path in (out / "masks" / SCAN_IDS[0]).iterdir()}
    assert masks == {f"{SCAN_IDS[0]}_{number}_pred.tif" for number in (1, 2, 3)}
    rows = patients(out)
    assert len(rows) == len({row["scan_id"] for row in rows}) == 4


def test_a_scan_killed_before_its_manifest_entry_is_scored_again(model: Path, raw: Path, out: Path) -> None:
    run(model, raw, out)
    before = outputs(out)
    next((out / "manifest").glob(f"{SCAN_IDS[1]}*")).unlink()
    next((out / "masks" / SCAN_IDS[1]).iterdir()).write_bytes(b"half")
    shutil.rmtree(out / "patients")
    assert run(model, raw, out)["scored"] == 1
    assert outputs(out) == before
    assert len(patients(out)) == 3


def test_the_manifest_vouches_for_all_outputs(model: Path, raw: Path, out: Path) -> None:
    run(model, raw, out)
    entries = pq.read_table(out / "manifest").to_pylist()
    hashes: dict[str, str] = {}
    for entry in entries:
        hashes |= dict(zip(entry["outputs"], entry["output_hashes"], strict=True))
    assert hashes == outputs(out)


def test_another_model_stands_beside_the_first(model: Path, raw: Path, out: Path, tmp_path: Path) -> None:
    run(model, raw, out)
    before = outputs(out)
    card = write_run(canonical(str(tmp_path / "second")), seed=1)
    assert run(tmp_path / "second", raw, out)["scored"] == 3
    after = outputs(out)
    assert {name: after[name] for name in before} == before
    assert (out / f"masks-{card.model_id}" / SCAN_IDS[0]).is_dir()
    assert len(patients(out)) == 6


def test_without_masks_there_is_no_dice(model: Path, out: Path, tmp_path: Path) -> None:
    write_scan(tmp_path / "raw", SCAN_IDS[0], masks=False)
    summary = run(model, tmp_path / "raw", out)
    assert (summary["scored"], summary["mean_patient_dice"]) == (1, None)
    (row,) = patients(out)
    assert (row["dice"], row["true_volume"], row["labelled_slices"]) == (None, None, 0)
    assert all(one["dice"] is None for one in slice_rows(out))


def test_with_half_its_masks_the_labelled_half_counts(model: Path, raw: Path, out: Path) -> None:
    for number in (1, 2):
        (raw / SCAN_IDS[0] / f"{SCAN_IDS[0]}_{number}_mask.tif").unlink()
    run(model, raw, out)
    (row,) = [row for row in patients(out) if row["scan_id"] == SCAN_IDS[0]]
    assert (row["labelled_slices"], row["true_volume"], row["slices"]) == (2, 16, 4)


def test_bad_files_are_named_the_rest_is_scored(model: Path, raw: Path, out: Path) -> None:
    (raw / SCAN_IDS[0] / f"{SCAN_IDS[0]}_2.tif").write_bytes(b"II*\0")
    for path in (raw / SCAN_IDS[1]).iterdir():
        path.write_bytes(b"gone bad")
    write_scan(raw, "TEST_DD_0004_20200104", slices=1, side=48)
    summary = run(model, raw, out)
    assert (summary["scored"], summary["set_aside"]) == (3, 1)
    assert (summary["slices"], summary["quarantined"]) == (8, 5)
    reasons = {row["reason"] for row in pq.read_table(out / "quarantine").to_pylist()}
    assert reasons == {"truncated", "not_a_tiff"}
    warnings = {row["scan_id"]: row["warnings"] for row in patients(out)}
    assert warnings[SCAN_IDS[1]] == ["no usable slice", "4 files set aside"]
    assert run(model, raw, out)["scored"] == 0
    assert run(model, raw, out, max_bad_fraction=0.01)["status"] == "data_short"


def test_hd95_is_in_millimetres_where_a_spacing_is_given(model: Path, raw: Path, out: Path) -> None:
    run(model, raw, out)
    in_pixels = patients(out)
    summary = run(model, raw, out, spacing="5,0.5,0.5")
    assert summary["scored"] == len(in_pixels), "other numbers than before: every scan is done again"
    stored = json.loads((out / "summary.json").read_text())
    assert stored["hd95"]["unit"] == "mm"
    for before, row in zip(in_pixels, patients(out), strict=True):
        assert (before["spacing"], row["spacing"]) == (None, [5.0, 0.5, 0.5])
        assert row["dice"] == before["dice"]
        assert 0.5 * before["hd95"] <= row["hd95"] <= 5 * before["hd95"]
    assert run(model, raw, out, spacing="5,0.5,0.5")["scored"] == 0


def test_the_spacing_may_be_a_column_of_the_clinical_table(
    model: Path, raw: Path, out: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    table = tmp_path / "clinical.csv"
    first, second, third = sorted({row.rpartition("_")[0] for row in SCAN_IDS})
    table.write_text(f"Patient,thickness\n{first},5\n{second},2.5\n{third},\n")
    columns = {"spacing": "thickness,0.5,2", "clinical": str(table)}
    assert run(model, raw, out, **columns)["scored"] == 3
    rows = {row["patient_id"]: row for row in patients(out)}
    assert [rows[patient]["spacing"] for patient in (first, second, third)] == [
        [5.0, 0.5, 2.0],
        [2.5, 0.5, 2.0],
        None,
    ]
    assert rows[first]["true_volume_ml"] == pytest.approx(rows[first]["true_volume"] * 5 / 1000)
    assert rows[second]["predicted_volume_ml"] == pytest.approx(rows[second]["predicted_volume"] * 2.5 / 1000)
    assert rows[third]["predicted_volume_ml"] is None
    assert f"1 patients have no distance in the clinical table: {third}" in caplog.text
    assert run(model, raw, out, **columns)["scored"] == 0
    # What was not known is learnt: one scan is done again, with the numbers that all sides as numbers give.
    table.write_text(f"Patient,thickness\n{first},5\n{second},2.5\n{third},5\n")
    assert run(model, raw, out, **columns)["scored"] == 1
    by_column = {row["patient_id"]: row["hd95"] for row in patients(out)}
    assert run(model, raw, out, spacing="5,0.5,2")["scored"] == 1
    by_number = {row["patient_id"]: row["hd95"] for row in patients(out)}
    assert [by_column[patient] == by_number[patient] for patient in (first, third)] == [True, True]


def test_the_lakes_own_clinical_columns_say_the_spacing(
    model: Path, raw: Path, out: Path, tmp_path: Path
) -> None:
    lake = str(tmp_path / "lake")
    write_lake(canonical(lake), raw, clinical={"thickness": [2, 3, 4]})
    split.run(SplitConfig(lake=lake, name="all", fractions="0,0,1"))
    config = ScoreConfig(model=str(model), out=str(out), lake=lake, split="all", spacing="thickness,1,1")
    score.run(config)
    thick = {row["scan_id"]: row["spacing"] for row in patients(out)}
    assert thick == {scan_id: [place + 2.0, 1.0, 1.0] for place, scan_id in enumerate(SCAN_IDS)}
    with pytest.raises(ConfigError, match=r"clinical table lacks.*one of thickness; found depth"):
        score.run(dataclasses.replace(config, spacing="depth,1,1"))


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"spacing": "thickness,1,1"}, "there is no clinical table"),
        ({"spacing": "5,1,1", "clinical": "c.csv"}, "--clinical is for columns"),
        ({"clinical": "c.csv"}, "--clinical is for columns"),
    ],
)
def test_a_column_needs_a_table_and_a_table_a_column(settings: dict[str, str], problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        ScoreConfig(model="m", raw=("r",), out="o", **settings)
    with pytest.raises(ConfigError, match=problem):
        PredictConfig(("f",), model="m", out="o", **settings)


def test_the_threshold_is_the_cards_unless_asked(model: Path, raw: Path, out: Path, tmp_path: Path) -> None:
    run(model, raw, out)
    strict = run(model, raw, tmp_path / "strict", threshold=0.999)
    assert strict["scored"] == 3
    assert {row["threshold"] for row in patients(tmp_path / "strict")} == {0.999}
    assert {row["threshold"] for row in patients(out)} == {0.5}
    volumes = [sum(row["predicted_volume"] for row in patients(home)) for home in (tmp_path / "strict", out)]
    assert volumes[0] < volumes[1]


def test_a_second_writer_is_refused(model: Path, raw: Path, out: Path) -> None:
    with sole_writer(canonical(str(out)), "other"), pytest.raises(BusyError):
        run(model, raw, out)


def test_a_scan_that_can_not_be_written_fails_alone_and_the_next_run_scores_it(
    model: Path, raw: Path, out: Path, tmp_path: Path
) -> None:
    obstacle = out / "masks" / SCAN_IDS[1]
    obstacle.parent.mkdir(parents=True)
    obstacle.write_bytes(b"a file in the folder's place")
    first = run(model, raw, out)
    assert (first["status"], first["scored"], first["failed"]) == ("failed", 2, 1)
    assert SCAN_IDS[1] in first["error"]
    assert {row["scan_id"] for row in patients(out)} == {SCAN_IDS[0], SCAN_IDS[2]}
    obstacle.unlink()
    second = run(model, raw, out)
    assert (second["status"], second["scored"], second["skipped_done"]) == ("done", 1, 2)
    run(model, raw, tmp_path / "calm")
    assert outputs(out) == outputs(tmp_path / "calm")


def test_models_that_can_not_be_trusted_are_one_clear_line(
    model: Path, raw: Path, out: Path, tmp_path: Path
) -> None:
    with pytest.raises(ModelFileError, match="holds no readable model card"):
        run(tmp_path, raw, out)
    broken = tmp_path / "broken"
    shutil.copytree(model, broken)
    (broken / "model.safetensors").write_bytes(b"PK\x03\x04 a pickle in a zip")
    with pytest.raises(ModelFileError, match="is not a safetensors file"):
        run(broken, raw, out)
    old = json.loads((model / "model.json").read_text()) | {"schema_version": 0}
    (broken / "model.json").write_text(json.dumps(old))
    with pytest.raises(LakeVersionError, match="another schema version"):
        run(broken, raw, out)
    assert not out.exists()


def test_sources_exclude_each_other(model: Path) -> None:
    with pytest.raises(ConfigError, match="found neither"):
        ScoreConfig(model=str(model), out="x")
    with pytest.raises(ConfigError, match="found both"):
        ScoreConfig(model=str(model), out="x", raw=("a",), lake="b", split="s")
    with pytest.raises(ConfigError, match="--split NAME"):
        ScoreConfig(model=str(model), out="x", lake="b")


def test_scores_in_s3_are_those_on_disk(
    spark: SparkSession, model: Path, raw: Path, out: Path, bucket: str
) -> None:
    for path in [*raw.rglob("*.tif"), *model.rglob("model.*")]:
        home = raw if path.suffix == ".tif" else model
        storage.write_bytes(f"{bucket}/{home.name}/{path.relative_to(home)}", path.read_bytes())
    run(model, raw, out)
    summary = run(f"{bucket}/{model.name}", f"{bucket}/raw", f"{bucket}/scores")
    assert summary["scored"] == 3
    for name in outputs(out):
        assert storage.read_bytes(f"{bucket}/scores/{name}") == (out / name).read_bytes()
    assert spark.read.parquet(f"{bucket}/scores/patients").count() == 3
    assert run(f"{bucket}/{model.name}", f"{bucket}/raw", f"{bucket}/scores")["skipped_done"] == 3


def test_this_process_and_spark_write_the_same_bits(
    spark: SparkSession, model: Path, raw: Path, out: Path, tmp_path: Path
) -> None:
    summary = run(model, raw, out)
    config = ScoreConfig(model=str(model), out=str(tmp_path / "spark"), raw=(str(raw),))
    by_spark = score.run(config, spark)
    assert outputs(tmp_path / "spark") == outputs(out)
    counts = ("scans", "slices", "scored", "mean_patient_dice")
    assert [summary[name] for name in counts] == [by_spark[name] for name in counts]


def test_spark_starts_for_much_work_or_where_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def task(slices: int) -> ScoreTask:
        return ScoreTask("s", "f", "k", 1, slices, LakeSource(canonical("/lake"), {}))

    assert runs_here([task(HERE_SLICES - 1), task(1)])
    assert not runs_here([task(HERE_SLICES), task(1)])
    monkeypatch.setenv("SLICEMILL_MASTER", "local[2]")
    assert not runs_here([task(1)])


def test_progress_is_said_in_scans_slices_rate_and_time() -> None:
    tasks = [ScoreTask(name, "f", "k", 1, 30, LakeSource(canonical("/lake"), {})) for name in "abcd"]
    assert progress_line([], tasks, 5.0) == "0 of 4 scans, 0 of 120 slices scored"
    assert (
        progress_line(tasks[:1], tasks, 10.0)
        == "1 of 4 scans, 30 of 120 slices scored, 3.0 slices/s, about 30 s left"
    )
    assert progress_line(tasks[:1], tasks, 600.0).endswith("0.1 slices/s, about 30 min left")
    assert progress_line(tasks[:1], tasks, 6000.0).endswith("about 5.0 h left")


def test_the_longer_a_look_at_the_manifest_takes_the_rarer_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    looks = []

    def slow_entries(home: str) -> list[Any]:
        time.sleep(0.02)
        looks.append(home)
        return []

    monkeypatch.setattr(score_progress, "entries", slow_entries)
    monkeypatch.setattr(score_progress, "_DISK_SECONDS", 0.001)
    start = time.monotonic()

    with score_progress.scoring_progress(canonical("/scores"), []):
        time.sleep(1.0)

    # A look of 0.02 s, then 0.6 s of rest.
    assert 1 <= len(looks) <= 1 + (time.monotonic() - start) / 0.62
