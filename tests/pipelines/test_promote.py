"""The pointer to the model in use: moved in one write, followed by score, never trusted blindly."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from raw_builder import write_raw
from run_builder import write_run

from slicemill import cli
from slicemill.config import PromoteConfig, RollbackConfig, ScoreConfig
from slicemill.errors import BusyError, InputError, LakeVersionError, ModelFileError
from slicemill.io import storage
from slicemill.io.run.pointer import Move, Pointer, followed, open_model, read_pointer
from slicemill.io.storage.lock import sole_writer
from slicemill.io.storage.uri import canonical, join, parent
from slicemill.pipelines import score
from slicemill.pipelines.deployment import promote

RUNS = ("first", "second", "third")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("runs")
    for seed, name in enumerate(RUNS):
        write_run(canonical(str(home / name)), seed, size=32)
    return home


@pytest.fixture(params=["disk", "s3"])
def runs(request: pytest.FixtureRequest, built: Path, tmp_path: Path) -> str:
    """Folder of three runs, to be written to."""
    if request.param == "disk":
        shutil.copytree(built, tmp_path / "runs")
        return str(tmp_path / "runs")
    home = join(canonical(request.getfixturevalue("bucket")), "runs")
    for path in built.rglob("*.*"):
        storage.write_bytes(join(home, str(path.relative_to(built))), path.read_bytes())
    return home


def point(runs: str, name: str) -> dict[str, Any]:
    return promote.run(PromoteConfig(f"{runs}/{name}", f"{runs}/current"))


def back(runs: str) -> dict[str, Any]:
    return promote.roll_back(RollbackConfig(f"{runs}/current"))


def test_a_pointer_goes_forward_and_back_and_keeps_its_history(runs):
    for name in RUNS:
        assert point(runs, name)["changed"]
    assert back(runs)["run"].endswith("second")
    assert open_model(f"{runs}/current").run == canonical(f"{runs}/second")
    assert back(runs)["run"].endswith("first")
    with pytest.raises(InputError, match="nothing to go back to"):
        back(runs)
    moves = read_pointer(canonical(f"{runs}/current")).moves
    assert [move.act for move in moves] == ["promote"] * 3 + ["rollback"] * 2
    assert point(runs, "third")["run_before"].endswith("first")
    assert back(runs)["run"].endswith("first")


def test_promoting_what_is_in_use_changes_nothing(runs):
    point(runs, "first")
    before = storage.read_bytes(canonical(f"{runs}/current"))
    assert not point(runs, "first")["changed"]
    assert storage.read_bytes(canonical(f"{runs}/current")) == before


def test_one_at_a_time_moves_a_pointer(runs):
    point(runs, "first")
    with sole_writer(parent(canonical(f"{runs}/current")), "other"), pytest.raises(BusyError):
        point(runs, "second")
    assert open_model(f"{runs}/current").run.endswith("first")


def test_a_run_that_was_trained_again_is_not_taken_for_what_was_promoted(built, tmp_path):
    shutil.copytree(built, tmp_path / "runs")
    runs = str(tmp_path / "runs")
    point(runs, "first")
    point(runs, "second")
    for name in ("first", "second"):
        write_run(canonical(f"{runs}/{name}"), seed=9, size=32)
    for attempt in (lambda: open_model(f"{runs}/current"), lambda: back(runs)):
        with pytest.raises(ModelFileError, match="trained again since it was promoted"):
            attempt()


def test_a_model_that_cannot_be_trusted_is_not_promoted(built, tmp_path):
    shutil.copytree(built / "first", tmp_path / "first")
    (tmp_path / "first" / "model.safetensors").write_bytes(b"other")
    with pytest.raises(ModelFileError):
        point(str(tmp_path), "first")
    assert not (tmp_path / "current").exists()


@pytest.mark.parametrize(
    ("content", "error"),
    [
        ("[]", InputError),
        ('{"kind": "another"}', InputError),
        ('{"kind": "slicemill pointer", "schema_version": 99, "moves": []}', LakeVersionError),
        ('{"kind": "slicemill pointer", "schema_version": 1}', InputError),
        ('{"kind": "slicemill pointer", "schema_version": 1, "moves": [{"act": "jump"}]}', InputError),
        ('{"kind": "slicemill pointer", "schema_version": 1, "moves": []}', InputError),
        (
            '{"kind": "slicemill pointer", "schema_version": 1, "moves": '
            '[{"act": "promote", "run": "file:///a/../b", "model_id": "0", "time": ""}]}',
            InputError,
        ),
    ],
)
def test_a_file_that_is_no_pointer_is_refused_in_one_line(content, error, tmp_path):
    (tmp_path / "current").write_text(content)
    with pytest.raises(error):
        open_model(str(tmp_path / "current"))


def test_the_history_decides_where_a_rollback_goes():
    def moved(*acts: str) -> Move | None:
        pointer = Pointer(canonical("/pointer"))
        for number, act in enumerate(acts):
            pointer = pointer.moved(Move(act, f"file:///{number}", str(number), ""))
        return pointer.previous

    assert moved() is None
    assert moved("promote") is None
    assert moved("promote", "promote").run == "file:///0"
    assert moved("promote", "promote", "rollback") is None
    assert moved("promote", "promote", "rollback", "promote").run == "file:///0"


def test_scores_follow_a_pointer_and_say_which_run_it_was(built, tmp_path):
    shutil.copytree(built, tmp_path / "runs")
    write_raw(tmp_path / "raw")
    summaries = {}
    for name in ("first", "second"):
        point(str(tmp_path / "runs"), name)
        config = ScoreConfig(
            model=str(tmp_path / "runs" / "current"),
            raw=(str(tmp_path / "raw"),),
            out=str(tmp_path / "scores"),
            device="cpu",
        )
        summaries[name] = score.run(config)
    for name, suffix in (("first", ""), ("second", f"-{summaries['second']['model_id']}")):
        stored = json.loads((tmp_path / "scores" / f"summary{suffix}.json").read_text())
        assert stored["run"] == summaries[name]["run"] == str(tmp_path / "runs" / name)
        assert stored["pointer"] == str(tmp_path / "runs" / "current")
        assert stored["model_id"] == open_model(str(tmp_path / "runs" / name)).card.model_id
    assert followed(str(tmp_path / "runs" / "current")).endswith("second")


def test_the_command_knows_as(built, tmp_path, capsys):
    shutil.copytree(built / "first", tmp_path / "first")
    assert cli.run_verb("promote", ["--run", str(tmp_path / "first"), f"--as={tmp_path}/current"]) == 0
    assert cli.run_verb("rollback", ["--as", str(tmp_path / "current")]) == 1
    assert "nothing to go back to" in capsys.readouterr().out
