"""The notebooks, run from start to end by a kernel of their own, as their readers run them."""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from report_builder import add_split, quarantine_row, write_lake
from report_builder import write_scores as write_synthetic_scores
from run_builder import write_run

from slicemill.io.lake.reader import read_scans
from slicemill.io.places import Scores
from slicemill.io.storage.uri import join

FOLDER = Path(__file__).parents[1] / "notebooks"
NAMES = ("01-explore-lake", "02-train-and-watch", "03-results-and-worst-cases", "04-score-new-scans")
#: Seconds that a cell may take; those that start Spark or train take most.
CELL_SECONDS = 600


@dataclass(frozen=True)
class Homes:
    """Canonical URIs: a lake, an untrained network, scores of the lake, raw scans, a folder for more."""

    lake: str
    run: str
    scores: str
    raw: str
    out: str


@pytest.fixture(scope="module")
def homes(phantom_raw, tmp_path_factory) -> Homes:
    base = tmp_path_factory.mktemp("notebooks")
    made = Homes(
        *(f"file://{base}/{name}" for name in ("lake", "run", "scores")),
        f"file://{phantom_raw}",
        f"file://{base}",
    )
    write_lake(made.lake, phantom_raw, [quarantine_row("truncated", "file:///raw/S/S_1.tif")])
    patients = [row.patient_id for row in read_scans(made.lake)]
    parts = ("train", "train", "train", "val", "test", "test")
    add_split(made.lake, "demo", dict(zip(patients, parts, strict=True)))
    write_run(made.run, size=32)
    write_synthetic_scores(made.scores, made.lake)
    return made


def read(name: str) -> nbformat.NotebookNode:
    return nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)


def code(notebook: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def parameters(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    (cell,) = [cell for cell in code(notebook) if "parameters" in cell.metadata.get("tags", ())]
    return cell


def run(name: str, folder: Path, **values: object) -> nbformat.NotebookNode:
    """Run a notebook with other parameters, which come right behind its own, as papermill puts them."""
    notebook = read(name)
    own = parameters(notebook)
    known = {target.id for node in ast.parse(own.source).body for target in node.targets}
    assert values.keys() <= known
    given = "\n".join(f"{key} = {value!r}" for key, value in values.items())
    notebook.cells.insert(notebook.cells.index(own) + 1, nbformat.v4.new_code_cell(given))
    NotebookClient(notebook, timeout=CELL_SECONDS, resources={"metadata": {"path": str(folder)}}).execute()
    said = "".join(output.text for output in outputs(notebook) if output.output_type == "stream")
    assert not re.search(r"slicemill\S*:\d+: \w*Warning", said)
    return notebook


def outputs(notebook: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    return [output for cell in code(notebook) for output in cell.outputs]


def pictures(notebook: nbformat.NotebookNode) -> int:
    return sum(output.get("data", {}).get("text/html", "").count("<img ") for output in outputs(notebook))


def words(notebook: nbformat.NotebookNode) -> str:
    return "\n".join(output.get("data", {}).get("text/plain", "") for output in outputs(notebook))


def test_the_notebooks_are_these():
    assert sorted(path.stem for path in FOLDER.glob("*.ipynb")) == list(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_is_stored_without_outputs(name):
    notebook = read(name)
    for cell in code(notebook):
        assert cell.outputs == []
        assert cell.execution_count is None
    assert notebook.metadata.keys() == {"kernelspec", "language_info"}


@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_is_plain_python_that_defines_nothing(name):
    notebook = read(name)
    parameters(notebook)
    for cell in code(notebook):
        assert not re.search(r"^\s*[%!]", cell.source, re.MULTILINE)
        defined = ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda
        assert not any(isinstance(node, defined) for node in ast.walk(ast.parse(cell.source)))


@pytest.mark.slow
def test_a_lake_is_explored(homes, tmp_path):
    done = run("01-explore-lake", tmp_path, LAKE=homes.lake, EXAMPLES=4)
    assert pictures(done) == 1 + 1 + 3 + 4 + 2 + 2 + 1
    assert "truncated" in words(done)


@pytest.mark.slow
def test_a_network_is_trained_and_watched(homes, tmp_path):
    home = f"{homes.out}/trained"
    done = run(
        "02-train-and-watch", tmp_path, LAKE=homes.lake, RUN=home, EPOCHS=2, IMAGE_SIZE=32, PROCESSES=1
    )
    # Training draws an epoch when it is the best so far: the first, and perhaps the second.
    assert pictures(done) in (1 + 4 + 1, 1 + 4 + 2)
    assert "'status': 'done'" in words(done)


@pytest.mark.slow
def test_results_and_worst_cases_are_shown(homes, tmp_path):
    done = run("03-results-and-worst-cases", tmp_path, LAKE=homes.lake, RUN=homes.run, SCORES=homes.scores)
    assert pictures(done) >= 4 + 2 + 1
    assert "mean Dice of 6 patients" in words(done)


@pytest.mark.slow
def test_new_scans_are_scored(homes, tmp_path):
    out = f"{homes.out}/new"
    done = run("04-score-new-scans", tmp_path, MODEL=homes.run, RAW=homes.raw, OUT=out)
    assert pictures(done) == 2
    assert "'scored': 6" in words(done)
    assert Path(join(out, "report", "index.html").removeprefix("file://")).stat().st_size > 100_000
    assert Path(Scores(out).patients_csv.removeprefix("file://")).exists()
