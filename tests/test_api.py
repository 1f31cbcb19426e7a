"""The front door: what `import slicemill` offers, what it costs, and that types agree with it."""

from __future__ import annotations

import ast
import inspect
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from run_builder import write_run

import slicemill
from slicemill.errors import InputError, ModelFileError
from slicemill.model.predicting.batches import predict_scans
from slicemill.model.predicting.cleaning import largest_component
from slicemill.model.predicting.predictor import NetworkPredictor
from slicemill.model.predicting.volumes import _scan

PACKAGE = Path(slicemill.__file__).parent
HEAVY = {"numpy", "pyarrow", "pandas", "torch", "pyspark", "boto3", "matplotlib", "PIL", "tyro"}


def test_importing_the_package_loads_nothing_heavy():
    code = "import sys, slicemill; print(*{name.partition('.')[0] for name in sys.modules})"
    modules = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert HEAVY.isdisjoint(modules.split())


def test_an_open_lake_needs_neither_torch_nor_spark():
    code = "import sys, slicemill; slicemill.open_lake; import slicemill.io.lake.tables; print(*sys.modules)"
    modules = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert {"torch", "pyspark"}.isdisjoint(modules.split())


def test_the_package_runs_as_a_module_too():
    command = [sys.executable, "-m", "slicemill", "--version"]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert said == f"{slicemill.__version__}\n"


def test_every_public_name_resolves_and_is_documented():
    for name in slicemill.__all__:
        value = getattr(slicemill, name)
        if name != "__version__":
            assert inspect.getdoc(value), name
    assert set(slicemill.__all__) <= set(dir(slicemill))


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'open_lakes'"):
        slicemill.open_lakes  # noqa: B018


def test_the_stub_names_what_the_package_offers():
    tree = ast.parse((PACKAGE / "__init__.pyi").read_text())
    aliases = [alias for node in tree.body if isinstance(node, ast.ImportFrom) for alias in node.names]
    assert {alias.asname for alias in aliases} | {"__version__"} == set(slicemill.__all__)
    for node in tree.body:
        if isinstance(node, ast.ImportFrom):
            for alias in node.names:
                assert alias.name == alias.asname
                assert slicemill._HOME_OF[alias.name] == node.module


def test_no_module_hides_a_public_name():
    modules = {path.stem for path in PACKAGE.iterdir()} - {"figures"}
    assert modules.isdisjoint(slicemill.__all__)


@pytest.fixture(scope="module")
def run_uri(tmp_path_factory) -> str:
    home = f"file://{tmp_path_factory.mktemp('api')}/run"
    write_run(home, size=32)
    return home


@pytest.fixture(scope="module")
def volume() -> np.ndarray:
    """uint8, axes (13, 48, 64, 3): two batches, the last one not full."""
    rng = np.random.default_rng(7)
    return rng.integers(0, 256, (13, 48, 64, 3), dtype=np.uint8)


def test_a_volume_is_predicted_as_scoring_predicts_it(run_uri, volume):
    prediction = slicemill.Predictor.load(run_uri, "cpu").predict(volume)
    network = NetworkPredictor.load(run_uri, "cpu")
    ((_, _, expected),) = predict_scans([(None, _scan(volume))], network, 8, 0.5)
    assert prediction.masks is not None
    assert prediction.masks.dtype == np.uint8
    np.testing.assert_array_equal(prediction.masks, expected.masks)
    np.testing.assert_array_equal(prediction.probabilities.max(axis=(1, 2)), expected.peaks)
    assert prediction.probabilities.dtype == np.float32
    assert 0 < prediction.masks.mean() < 1


def test_options_and_threshold_are_the_callers_where_named(run_uri, volume):
    predictor = slicemill.Predictor.load(run_uri, "cpu")
    plain = predictor.predict(volume)
    cleaned = predictor.predict(volume, options=["largest-component"])
    np.testing.assert_array_equal(cleaned.masks, largest_component(plain.masks))
    assert predictor.predict(volume, threshold=0.999999).masks.sum() < plain.masks.sum()


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((4, 8, 8), np.uint8),
        np.zeros((4, 8, 8, 1), np.uint8),
        np.zeros((4, 8, 8, 3), np.float32),
        np.zeros((0, 8, 8, 3), np.uint8),
    ],
)
def test_an_array_that_is_not_a_scan_is_refused(run_uri, array):
    with pytest.raises(InputError, match=r"axes \(slices, rows, columns, 3\)"):
        slicemill.Predictor.load(run_uri, "cpu").predict(array)


def test_a_folder_without_a_model_is_refused(tmp_path):
    with pytest.raises(ModelFileError):
        slicemill.Predictor.load(str(tmp_path))


@pytest.mark.parametrize(
    ("kind", "name", "more"),
    [
        ("IngestConfig", "raw", {"lake": "lake"}),
        ("ScoreConfig", "raw", {"model": "run", "out": "scores"}),
        ("PredictConfig", "file", {"model": "run", "out": "masks"}),
        ("ReportConfig", "scan", {"out": "report", "lake": "lake"}),
        ("ForgetConfig", "patient", {"lake": "lake"}),
        ("CommitteeConfig", "model", {"out": "committee"}),
        ("CompareConfig", "run", {"out": "page"}),
        ("AssociateConfig", "scores", {"lake": "lake", "out": "page"}),
    ],
)
def test_one_folder_needs_no_tuple(kind: str, name: str, more: dict[str, str]) -> None:
    config = getattr(slicemill, kind)
    (one, several) = (config(**{name: value}, **more) for value in ("/data/first", ["/data/first"]))
    assert getattr(one, name) == getattr(several, name) == ("/data/first",)
