"""The pointer to the model in use: moved in one write, followed by score, never trusted blindly."""

from __future__ import annotations

import json
import shutil
import uuid
from dataclasses import dataclass
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


@dataclass(frozen=True)
class Place:
    """Folder of the runs, and a pointer of the test's own."""

    runs: str
    pointer: str

    def point(self, name: str) -> dict[str, Any]:
        return promote.run(PromoteConfig(f"{self.runs}/{name}", self.pointer))

    def back(self) -> dict[str, Any]:
        return promote.roll_back(RollbackConfig(self.pointer))


@pytest.fixture(scope="module")
def in_s3(s3: str, built: Path) -> str:
    """The runs in S3."""
    import boto3

    bucket = f"slicemill-{uuid.uuid4().hex[:12]}"
    boto3.client("s3").create_bucket(Bucket=bucket)
    for path in built.rglob("*.*"):
        uri = join(canonical(f"s3://{bucket}/runs"), str(path.relative_to(built)))
        storage.write_bytes(uri, path.read_bytes())
    return f"s3://{bucket}/runs"


@pytest.fixture(params=["disk", "s3"])
def place(request: pytest.FixtureRequest, built: Path, tmp_path: Path) -> Place:
    if request.param == "disk":
        return Place(str(built), str(tmp_path / "current"))
    runs = request.getfixturevalue("in_s3")
    return Place(runs, f"{runs}/{uuid.uuid4().hex}/current")


def copied(built: Path, tmp_path: Path) -> Place:
    """The runs in a folder that may be written to."""
    shutil.copytree(built, tmp_path / "runs")
    return Place(str(tmp_path / "runs"), str(tmp_path / "current"))


def test_a_pointer_goes_forward_and_back_and_keeps_its_history(place):
    for name in RUNS:
        assert place.point(name)["changed"]
    assert place.back()["run"].endswith("second")
    assert open_model(place.pointer).run == canonical(f"{place.runs}/second")
    assert place.back()["run"].endswith("first")
    with pytest.raises(InputError, match="nothing to go back to"):
        place.back()
    moves = read_pointer(canonical(place.pointer)).moves
    assert [move.act for move in moves] == ["promote"] * 3 + ["rollback"] * 2
    assert place.point("third")["run_before"].endswith("first")
    assert place.back()["run"].endswith("first")


def test_promoting_what_is_in_use_changes_nothing(place):
    place.point("first")
    before = storage.read_bytes(canonical(place.pointer))
    assert not place.point("first")["changed"]
    assert storage.read_bytes(canonical(place.pointer)) == before


def test_one_at_a_time_moves_a_pointer(place):
    place.point("first")
    with sole_writer(parent(canonical(place.pointer)), "other"), pytest.raises(BusyError):
        place.point("second")
    assert open_model(place.pointer).run.endswith("first")


def test_a_run_that_was_trained_again_is_not_taken_for_what_was_promoted(built, tmp_path):
    place = copied(built, tmp_path)
    place.point("first")
    place.point("second")
    for name in ("first", "second"):
        write_run(canonical(f"{place.runs}/{name}"), seed=9, size=32)
    for attempt in (lambda: open_model(place.pointer), place.back):
        with pytest.raises(ModelFileError, match="trained again since it was promoted"):
            attempt()


def test_a_model_that_cannot_be_trusted_is_not_promoted(built, tmp_path):
    place = copied(built, tmp_path)
    Path(place.runs, "first", "model.safetensors").write_bytes(b"other")
    with pytest.raises(ModelFileError):
        place.point("first")
    assert not Path(place.pointer).exists()


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
    assert moved("rollback", "promote") is None


def test_scores_follow_a_pointer_and_say_which_run_it_was(built, tmp_path):
    place = Place(str(built), str(tmp_path / "current"))
    write_raw(tmp_path / "raw")
    summaries = {}
    for name in ("first", "second"):
        place.point(name)
        config = ScoreConfig(
            model=place.pointer,
            raw=(str(tmp_path / "raw"),),
            out=str(tmp_path / "scores"),
            device="cpu",
        )
        summaries[name] = score.run(config)
    for name, suffix in (("first", ""), ("second", f"-{summaries['second']['model_id']}")):
        stored = json.loads((tmp_path / "scores" / f"summary{suffix}.json").read_text())
        assert stored["run"] == summaries[name]["run"] == str(built / name)
        assert stored["pointer"] == place.pointer
        assert stored["model_id"] == open_model(str(built / name)).card.model_id
    assert followed(place.pointer).endswith("second")


def test_the_command_knows_as(built, tmp_path, capsys):
    shutil.copytree(built / "first", tmp_path / "first")
    assert cli.run_verb("promote", ["--run", str(tmp_path / "first"), f"--as={tmp_path}/current"]) == 0
    assert cli.run_verb("rollback", ["--as", str(tmp_path / "current")]) == 1
    assert "nothing to go back to" in capsys.readouterr().out
