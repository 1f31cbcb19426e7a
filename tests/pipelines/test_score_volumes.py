"""NIfTI and outlines beside the masks: written with them, and vouched for by the manifest."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from PIL import Image
from raw_builder import write_scan
from run_builder import write_run

from slicemill.config import PredictConfig, ScoreConfig
from slicemill.errors import ConfigError
from slicemill.io.storage.uri import canonical
from slicemill.pipelines import score, verify
from slicemill.pipelines.deployment import predict

SCAN = "TEST_AA_0001_20200101"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("run")
    write_run(canonical(str(home)), size=32)
    return home


def run(model: Path, home: Path, **more: Any) -> dict[str, Any]:
    settings = {"device": "cpu", **more}
    return score.run(
        ScoreConfig(model=str(model), raw=(str(home / "raw"),), out=str(home / "scores"), **settings)
    )


def names(home: Path) -> list[str]:
    return sorted(path.name for path in (home / "scores" / "volumes").rglob("*.*"))


def test_volumes_hold_the_masks_and_the_manifest_vouches_for_them(model, tmp_path):
    write_scan(tmp_path / "raw", SCAN, slices=3)
    run(model, tmp_path, nifti=True, probabilities=True, outlines=True, spacing="5,0.9,0.8")
    folder = tmp_path / "scores" / "volumes" / SCAN
    mask = nibabel.load(folder / f"{SCAN}_mask.nii.gz")
    probability = nibabel.load(folder / f"{SCAN}_probability.nii.gz").get_fdata()
    for number in (1, 2, 3):
        file = tmp_path / "scores" / "masks" / SCAN / f"{SCAN}_{number}_pred.tif"
        plane = np.asarray(Image.open(file)).T // 255
        np.testing.assert_array_equal(np.asarray(mask.dataobj)[..., number - 1], plane)
        assert probability[..., number - 1][plane == 1].min() >= 0.5 - 1 / 255
        assert (folder / f"{SCAN}_{number}_outline.png").exists()
    np.testing.assert_allclose(mask.header.get_zooms(), (0.8, 0.9, 5.0), rtol=1e-6)
    checked = ScoreConfig(out=str(tmp_path / "scores"), verify=True)
    assert verify.run(checked)["status"] == "done"
    (folder / f"{SCAN}_mask.nii.gz").write_bytes(b"other")
    assert verify.run(checked)["status"] != "done"


def test_the_same_extras_are_written_once_and_others_again(model, tmp_path):
    write_scan(tmp_path / "raw", SCAN, slices=2)
    assert run(model, tmp_path)["scored"] == 1
    assert run(model, tmp_path, nifti=True)["scored"] == 1
    assert names(tmp_path) == [f"{SCAN}_mask.nii.gz"]
    assert run(model, tmp_path, nifti=True)["scored"] == 0
    assert run(model, tmp_path)["scored"] == 1
    assert names(tmp_path) == []


def test_predict_writes_the_volume_that_score_writes(model, tmp_path):
    scan = write_scan(tmp_path / "raw", SCAN, slices=3)
    run(model, tmp_path, nifti=True)
    config = PredictConfig((str(scan),), str(model), str(tmp_path / "out"), nifti=True, picture=False)
    predict.run(config)
    scored = (tmp_path / "scores" / "volumes" / SCAN / f"{SCAN}_mask.nii.gz").read_bytes()
    assert (tmp_path / "out" / f"{SCAN}_mask.nii.gz").read_bytes() == scored


@pytest.mark.parametrize(
    "settings", [{"probabilities": True}, {"nifti": True, "spacing": "5,1"}, {"spacing": "0,1,1"}]
)
def test_settings_that_mean_nothing_are_refused(settings):
    with pytest.raises(ConfigError):
        ScoreConfig(model="m", raw=("r",), out="o", **settings)
