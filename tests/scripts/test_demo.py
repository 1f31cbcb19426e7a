"""The demo calls verbs that exist with flags that they have, and never clears a folder of somebody else."""

from __future__ import annotations

import csv
import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import tyro

from slicemill.cli import VERBS
from slicemill.io.places import Scores
from slicemill.io.storage.uri import canonical
from slicemill.schemas import SCORED_PATIENTS

_VARIABLES = ("RAW", "OUT", "SCANS", "EPOCHS", "IMAGE_SIZE", "BATCH_SIZE", "PROCESSES")


@pytest.fixture
def demo(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    spec = importlib.util.spec_from_file_location("demo", Path(__file__).parents[2] / "scripts" / "demo.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "demo", module)
    spec.loader.exec_module(module)
    for name in _VARIABLES:
        monkeypatch.delenv(name, raising=False)
    return module


def _parsed(calls: list[list[str]]) -> dict[str, Any]:
    as_in_the_runner = (tyro.conf.UseAppendAction, tyro.conf.FlagCreatePairsOff)
    return {verb: tyro.cli(VERBS[verb].config, args=args, config=as_in_the_runner) for verb, *args in calls}


def test_without_scans_it_makes_some_and_goes_all_the_way(
    demo: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("OUT", str(tmp_path / "out"))
    asked = _parsed(demo.steps(demo.read_plan()))
    assert list(asked) == ["phantom", "ingest", "split", "train", "score", "report"]
    assert asked["phantom"].out == asked["ingest"].raw[0] == str(tmp_path / "out" / "raw")
    assert asked["train"].num_processes == 2
    assert (asked["train"].epochs, asked["train"].image_size) == (10, 96)
    assert asked["score"].part == "test"


def test_given_scans_are_taken_with_their_clinical_table_if_there_is_one(
    demo: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("RAW", str(tmp_path))
    asked = _parsed(demo.steps(demo.read_plan()))
    assert list(asked) == ["ingest", "split", "train", "score", "report"]
    assert asked["ingest"].clinical is None
    assert asked["split"].fractions == "0.7,0.1,0.2"
    assert (asked["train"].epochs, asked["train"].image_size) == (14, 96)
    (tmp_path / "data.csv").touch()
    assert _parsed(demo.steps(demo.read_plan()))["ingest"].clinical == str(tmp_path / "data.csv")


def test_a_variable_that_is_no_number_is_named(demo: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EPOCHS", "many")
    with pytest.raises(demo.DemoError, match="EPOCHS=many"):
        demo.read_plan()


def test_a_folder_of_somebody_else_is_left_alone(
    demo: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("OUT", str(tmp_path))
    (tmp_path / "lake").mkdir()
    (tmp_path / "lake" / "mine").touch()
    with pytest.raises(demo.DemoError, match="name another OUT"):
        demo.make_room(demo.read_plan())
    assert (tmp_path / "lake" / "mine").exists()


def test_an_earlier_demo_is_cleared(
    demo: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("OUT", str(tmp_path / "out"))
    plan = demo.read_plan()
    demo.make_room(plan)
    (tmp_path / "out" / "run").mkdir()
    (tmp_path / "out" / "mine.txt").touch()
    demo.make_room(plan)
    assert not (tmp_path / "out" / "run").exists()
    assert (tmp_path / "out" / "mine.txt").exists()


def test_the_table_lists_scans_worst_first_and_their_mean(demo: ModuleType, tmp_path: Path) -> None:
    with open(Scores(str(tmp_path)).patients_csv, "w", newline="") as file:
        writer = csv.DictWriter(file, SCORED_PATIENTS.names, restval="1")
        writer.writeheader()
        writer.writerow({"scan_id": "good", "dice": 0.9})
        writer.writerow({"scan_id": "bad", "dice": 0.5, "hd95": ""})
    head, *rows = demo.dice_table(canonical(str(tmp_path)))
    assert head.split()[0] == "scan"
    assert [row.split()[0] for row in rows] == ["bad", "good", "mean"]
    assert [row.split()[-1] for row in rows] == ["0.500", "0.900", "0.700"]
    assert "-" in rows[0].split()


def test_a_failing_verb_stops_the_demo_with_its_own_word(demo: ModuleType) -> None:
    with pytest.raises(demo.DemoError, match=r"split failed: .*--name"):
        demo.run_step(["split", "--lake", "somewhere", "--name", "a/b"])
