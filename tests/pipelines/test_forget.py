"""A patient is forgotten: nothing that was written of a person stays, and what can't be reached is named."""

from __future__ import annotations

import dataclasses
import itertools
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from raw_builder import SCAN_IDS, write_raw
from report_builder import add_split, write_lake, write_run, write_scores

from slicemill.config import ForgetConfig
from slicemill.core.evaluation.seen import patient_hashes
from slicemill.errors import BusyError, ConfigError, InputError
from slicemill.io import storage
from slicemill.io.lake.reader import read_scans
from slicemill.io.lake.splits import read_split
from slicemill.io.lake.tables import read_lake
from slicemill.io.places import Lake, Scores
from slicemill.io.run.card import save_card
from slicemill.io.scores.tables import patient_rows
from slicemill.io.storage import files
from slicemill.io.storage.lock import LOCK_NAME, sole_writer
from slicemill.io.storage.uri import canonical, join, relative
from slicemill.pipelines import forget

PATIENT, SCAN = "TEST_AA_0001", SCAN_IDS[0]
PARTS = {"TEST_AA_0001": "train", "TEST_AA_0002": "val", "TEST_BB_0003": "test"}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lake with a split and clinical columns, scores with a summary, a report and a run."""
    home = tmp_path_factory.mktemp("made")
    lake, scores = canonical(str(home / "lake")), canonical(str(home / "scores"))
    write_lake(lake, write_raw(home / "raw"), clinical={"age": [51, 52, 53]})
    add_split(lake, "first", PARTS)
    storage.write_json(Lake(lake).patients, {SCAN: PATIENT, SCAN_IDS[1]: "TEST_AA_0002"})
    write_scores(scores, lake)
    storage.write_json(Scores(scores).card, {"schema_version": 1, "model_id": "m"})
    storage.write_json(Scores(scores).summary(""), {"worst": [{"scan_id": SCAN}]})
    (home / "report").mkdir()
    (home / "report" / "index.html").write_text(f"<h1>{SCAN}</h1>")
    (home / "report" / "other.html").write_text("<h1>nobody</h1>")
    (home / "report" / "sheets").mkdir()
    for scan_id in SCAN_IDS:
        (home / "report" / "sheets" / f"{scan_id}.webp").write_bytes(b"RIFF")
    card = write_run(canonical(str(home / "run")))
    save_card(
        canonical(str(home / "run")), dataclasses.replace(card, patients=patient_hashes({"train": [PATIENT]}))
    )
    return home


@pytest.fixture
def home(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "copy"))


def run(home: Path, **more: Any) -> dict[str, Any]:
    places = {
        "lake": str(home / "lake"),
        "scores": (str(home / "scores"),),
        "report": (str(home / "report"),),
        "run": (str(home / "run"),),
    }
    return forget.run(ForgetConfig(patient=(PATIENT,), **{**places, **more}))


def mentions(home: Path, name: str) -> list[str]:
    """Folders and files of lake, scores and reports whose path or content holds this name."""
    paths = [path for folder in ("lake", "scores", "report") for path in (home / folder).rglob("*")]
    return [
        str(path)
        for path in paths
        if name in str(path) or (path.is_file() and name.encode() in path.read_bytes())
    ]


def test_nothing_written_of_a_patient_stays(home: Path) -> None:
    assert mentions(home, PATIENT)
    summary = run(home)
    assert mentions(home, PATIENT) == []
    assert (summary["status"], summary["scans"], summary["splits"]) == ("done", 1, ["first"])
    sheets = home / "report" / "sheets"
    assert summary["reports"] == [str(home / "report" / "index.html"), str(sheets / f"{SCAN}.webp")]
    assert sorted(path.stem for path in sheets.iterdir()) == sorted(set(SCAN_IDS) - {SCAN})


def test_everybody_else_stays_as_they_were(home: Path) -> None:
    lake, scores = canonical(str(home / "lake")), canonical(str(home / "scores"))
    before = {row.scan_id: row for row in read_scans(lake)}
    masks = {path: path.read_bytes() for path in (home / "scores" / "masks").rglob("*.tif")}
    run(home)
    after = {row.scan_id: row for row in read_scans(lake)}
    assert after == {scan_id: row for scan_id, row in before.items() if scan_id != SCAN}
    assert sorted(read_lake(lake).clinical["age"].values()) == [52, 53]
    assert read_split(lake, "first").assigned == {k: v for k, v in PARTS.items() if k != PATIENT}
    assert {row.scan_id for row in patient_rows(scores)} == set(SCAN_IDS[1:])
    assert {path: path.read_bytes() for path in (home / "scores" / "masks").rglob("*.tif")} == {
        path: data for path, data in masks.items() if SCAN not in path.name
    }
    assert storage.read_json(Lake(lake).patients) == {SCAN_IDS[1]: "TEST_AA_0002"}
    profile = json.loads((home / "lake" / "profile.json").read_text())
    assert (profile["scans"], np.array(profile["heat_map"]).shape) == (2, (64, 64))


def test_what_can_not_be_reached_is_named(home: Path) -> None:
    unreached = run(home)["unreached"]
    assert f"{home}/run was trained or chosen on a patient: train another model and remove it" in unreached
    assert any("raw folders are not touched" in sentence for sentence in unreached)


def test_to_forget_again_changes_nothing(home: Path) -> None:
    run(home)
    before = {path: path.read_bytes() for path in home.rglob("*.parquet")}
    again = run(home)
    assert (again["scans"], again["files"], again["splits"]) == (0, 0, [])
    assert {path: path.read_bytes() for path in home.rglob("*.parquet")} == before


def contents(home: Path) -> dict[str, bytes]:
    """Every file of lake, scores and reports, without the locks."""
    return {
        str(path.relative_to(home)): path.read_bytes()
        for folder in ("lake", "scores", "report")
        for path in (home / folder).rglob("*")
        if path.is_file() and path.name != LOCK_NAME
    }


@pytest.mark.parametrize("place", ["lake", "scores", "report"])
def test_while_another_run_writes_nothing_is_removed(home: Path, place: str) -> None:
    before = contents(home)
    with sole_writer(canonical(str(home / place)), "other"), pytest.raises(BusyError):
        run(home)
    assert contents(home) == before


def test_killed_anywhere_it_is_run_again(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = Path(shutil.copytree(home, tmp_path / "whole"))
    run(whole)
    changes = itertools.count()
    last = 0

    def killed(change: Any) -> Any:
        def act(*arguments: Any, **more: Any) -> Any:
            if next(changes) >= last:
                raise KeyboardInterrupt
            return change(*arguments, **more)

        return act

    for last in itertools.count(0, 3):
        copy = Path(shutil.copytree(home, tmp_path / f"killed-{last}"))
        changes = itertools.count()
        with monkeypatch.context() as patch:
            for owner, name in ((files, "write_bytes"), (files, "remove"), (storage, "remove")):
                patch.setattr(owner, name, killed(getattr(owner, name)))
            try:
                run(copy)
                break
            except KeyboardInterrupt:
                pass
        run(copy)
        assert contents(copy) == contents(whole)
    assert last > 8


def test_in_s3_nothing_written_of_a_patient_stays(home: Path, bucket: str) -> None:
    for name, data in contents(home).items():
        storage.write_bytes(join(bucket, name), data)
    summary = forget.run(
        ForgetConfig(
            patient=(PATIENT,),
            lake=f"{bucket}/lake",
            scores=(f"{bucket}/scores",),
            report=(f"{bucket}/report",),
        )
    )
    run(home)
    assert (summary["scans"], summary["splits"]) == (1, ["first"])
    stored = {
        relative(file.uri, bucket): storage.read_bytes(file.uri)
        for place in ("lake", "scores", "report")
        for file in storage.list_files(join(bucket, place))
    }
    assert stored.keys() == contents(home).keys()
    assert not any(PATIENT in name or PATIENT.encode() in data for name, data in stored.items())


def test_wrong_places_are_one_clear_line(home: Path) -> None:
    with pytest.raises(InputError, match="is not a lake"):
        run(home, lake=str(home / "nowhere"))
    with pytest.raises(InputError, match="is not a score folder"):
        run(home, scores=(str(home / "nowhere"),))
    assert not (home / "nowhere").exists()
    with pytest.raises(ConfigError, match="nothing to forget the patient in"):
        ForgetConfig(patient=(PATIENT,))
