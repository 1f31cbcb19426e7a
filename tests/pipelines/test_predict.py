"""One scan to masks, a picture and a table, and the refusals of what is not one scan."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from raw_builder import image, write_raw, write_scan
from run_builder import write_run
from tiff_builder import build

from slicemill import cli
from slicemill.config import PredictConfig, ScoreConfig
from slicemill.errors import ConfigError, InputError
from slicemill.io.storage.uri import canonical
from slicemill.pipelines import score
from slicemill.pipelines.deployment import predict

SCAN = "TEST_AA_0001_20200101"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("run")
    write_run(canonical(str(home)), size=32)
    return home


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    return write_scan(tmp_path / "raw", SCAN, slices=11)


def run(model: Path, out: Path, *files: Path, **more: Any) -> dict[str, Any]:
    settings = {"picture": False, "device": "cpu", **more}
    return predict.run(PredictConfig(tuple(map(str, files)), model=str(model), out=str(out), **settings))


def masks(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(out.rglob("*_pred.tif"))}


def table(out: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO((out / "slices.csv").read_text())))


def test_the_spacing_of_a_scan_may_be_a_column(model, scan, tmp_path):
    table = tmp_path / "clinical.csv"
    table.write_text("Patient,thickness\nTEST_AA_0001,4\nTEST_AA_0002,\n")
    columns = {"spacing": "thickness,1,0.5", "clinical": str(table)}
    by_column = run(model, tmp_path / "out", scan, **columns)
    by_number = run(model, tmp_path / "out", scan, spacing="4,1,0.5")
    assert by_column == by_number
    assert by_column["tumour_ml"] == pytest.approx(by_column["tumour_pixels"] * 2 / 1000)
    assert run(model, tmp_path / "out", scan)["tumour_ml"] is None
    other = write_scan(tmp_path / "raw", "TEST_AA_0002_20200101", slices=2)
    with pytest.raises(InputError, match=r"does not say the spacing of this scan.*patient TEST_AA_0002"):
        run(model, tmp_path / "out", other, **columns)


def test_a_scan_has_the_masks_and_the_dice_that_score_gives_it(model, scan, tmp_path):
    scored = score.run(
        ScoreConfig(model=str(model), raw=(str(scan.parent),), out=str(tmp_path / "scores"), device="cpu")
    )
    summary = run(model, tmp_path / "out", scan)
    assert masks(tmp_path / "out") == masks(tmp_path / "scores" / "masks")
    assert summary["dice"] == scored["mean_patient_dice"]
    assert summary["slices"] == summary["masks"] == 11
    rows = table(tmp_path / "out")
    assert [int(row["slice_index"]) for row in rows] == list(range(1, 12))
    assert sum(int(row["tumour_pixels"]) for row in rows) == summary["tumour_pixels"] > 0


def test_files_in_any_order_are_the_scan_that_their_folder_is(model, scan, tmp_path):
    run(model, tmp_path / "folder", scan)
    shuffled = sorted(scan.iterdir(), key=lambda path: path.name[::-1])
    summary = run(model, tmp_path / "files", *shuffled)
    assert masks(tmp_path / "files") == masks(tmp_path / "folder")
    assert summary["scan_id"] == SCAN
    assert summary["dice"] is not None


def test_an_array_of_a_scan_has_its_masks(model, scan, tmp_path):
    stack = np.stack([image(SCAN, number) for number in range(1, 12)])
    np.save(tmp_path / "volume.npy", stack)
    run(model, tmp_path / "folder", scan)
    summary = run(model, tmp_path / "array", tmp_path / "volume.npy")
    of_files = masks(tmp_path / "folder")
    assert masks(tmp_path / "array") == {
        f"volume_{number}_pred.tif": of_files[f"{SCAN}_{number}_pred.tif"] for number in range(1, 12)
    }
    assert summary["seen"] is None


def test_png_masks_hold_what_tiff_masks_hold(model, scan, tmp_path):
    run(model, tmp_path / "tif", scan)
    run(model, tmp_path / "png", scan, format="png")
    for name in masks(tmp_path / "tif"):
        tiff, png = (
            np.asarray(Image.open(tmp_path / kind / f"{Path(name).stem}.{kind}")) for kind in ("tif", "png")
        )
        np.testing.assert_array_equal(tiff, png)
        assert set(np.unique(png)) <= {0, 255}


def test_a_bad_slice_is_set_aside_and_the_others_go_on(model, scan, tmp_path, caplog):
    (scan / f"{SCAN}_12.tif").write_bytes(b"no picture at all")
    summary = run(model, tmp_path / "out", *scan.glob("*[0-9].tif"))
    assert (summary["slices"], summary["quarantined"]) == (11, 1)
    assert f"{SCAN}_12.tif" in caplog.text


def test_few_slices_are_said_to_be_normalised_alone(model, scan, tmp_path, caplog):
    run(model, tmp_path / "out", scan / f"{SCAN}_3.tif")
    assert "these 1 slices alone" in caplog.text


def test_the_picture_is_drawn_where_it_is_asked_for(model, tmp_path):
    scan = write_scan(tmp_path / "raw", SCAN, slices=2)
    run(model, tmp_path / "out", scan, picture=True)
    with Image.open(tmp_path / "out" / "outlines.png") as drawing:
        assert drawing.format == "PNG"


def test_what_is_not_one_scan_is_refused_before_anything_is_written(model, scan, tmp_path):
    write_raw(tmp_path / "many")
    (tmp_path / "text.txt").write_text("text")
    (tmp_path / "bad.tif").write_text("text")
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / f"{SCAN}_1.tif").write_bytes(build(image(SCAN, 1)))
    refusals = {
        "more than one scan": (tmp_path / "many",),
        "predict takes one scan": (scan, tmp_path / "bad.tif"),
        "can't be read as slices": (tmp_path / "text.txt",),
        "can't be read;": (tmp_path / "absent.tif",),
        "no usable slice": (tmp_path / "bad.tif",),
        "two files have one name": (scan / f"{SCAN}_1.tif", tmp_path / "a" / f"{SCAN}_1.tif"),
    }
    for sentence, files in refusals.items():
        with pytest.raises((InputError, ConfigError), match=sentence):
            run(model, tmp_path / "out", *files)
    assert not (tmp_path / "out").exists()


def test_the_command_takes_files_without_a_flag(model, tmp_path, capsys):
    scan = write_scan(tmp_path / "raw", SCAN, slices=2)
    files = [str(path) for path in scan.glob("*[0-9].tif")]
    argv = [*files, "--model", str(model), "--out", str(tmp_path / "out"), "--no-picture"]
    assert cli.run_verb("predict", argv) == 0
    summary = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (summary["job"], summary["slices"]) == ("predict", 2)


@pytest.mark.parametrize(
    ("argv", "sentence"),
    [
        (("--model", "m", "--out", "o"), "FILE"),
        (("a.tif", "--out", "o"), "--model is missing"),
        (("a.tif", "--model", "m"), "--out is missing"),
    ],
)
def test_what_the_command_lacks_is_one_sentence(argv, sentence, capsys):
    assert cli.run_verb("predict", argv) == 2
    assert sentence in json.loads(capsys.readouterr().out)["error"]
