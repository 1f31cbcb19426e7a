from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from slicemill.config import SplitConfig
from slicemill.errors import ConfigError, InputError
from slicemill.io import storage
from slicemill.io.lake.splits import read_split
from slicemill.io.parquet import write_small
from slicemill.io.places import Lake
from slicemill.io.storage.uri import canonical
from slicemill.pipelines import split
from slicemill.schemas import SCANS, SCHEMA_VERSION, TOTALS


def scans_table(home: str, patients: range, scans_each: int = 1) -> None:
    """A lake of nothing but its scans table: the columns that a split reads, the others zero."""
    rows = []
    for patient in patients:
        for scan in range(scans_each):
            row: dict[str, Any] = {}
            for column in SCANS.columns:
                row[column.name] = (
                    [] if column.repeated else {"string": "", "int32": 0, "int64": 0}.get(column.kind, 0.0)
                )
            row |= {"patient_id": f"P{patient:03}", "scan_id": f"P{patient:03}_{scan}", "scan_date": None}
            row |= {"institution": "AB"[patient % 2], "tumour_voxel_fraction": patient / 1000}
            rows.append(row | {"schema_version": SCHEMA_VERSION})
    write_small(Lake(home).scans, SCANS, rows)
    storage.write_json(Lake(home).card, {"schema_version": SCHEMA_VERSION})


@pytest.fixture
def home(tmp_path: Path) -> str:
    home = canonical(str(tmp_path / "lake"))
    scans_table(home, range(20), scans_each=2)
    return home


def make(home: str, **more: Any) -> dict[str, Any]:
    return split.run(SplitConfig(lake=home, name=more.pop("name", "s"), **more))


def test_fractions_count_patients_not_scans(home: str) -> None:
    assert make(home, fractions="0.7,0.1,0.2")["patients"] == {"train": 14, "val": 2, "test": 4}


def test_a_split_grows_with_the_lake_and_moves_nobody(home: str) -> None:
    make(home)
    before = dict(read_split(home, "s").assigned)
    scans_table(home, range(30))
    summary = make(home)
    after = read_split(home, "s")
    assert (summary["kept"], len(after.assigned)) == (20, 30)
    assert {patient: after.assigned[patient] for patient in before} == before


def test_folds_become_parts_and_cover_everybody_once(home: str) -> None:
    assert make(home, folds=4)["patients"] == {f"fold-{fold}": 5 for fold in range(4)}
    stored = read_split(home, "s")
    tested = [patient for fold in range(4) for patient, part in stored.parts(fold).items() if part == "test"]
    assert sorted(tested) == sorted(stored.assigned)
    with pytest.raises(ConfigError, match="--fold 0 to 3"):
        stored.parts()


def test_with_a_share_that_validates_more_patients_train(home: str) -> None:
    make(home, folds=4)
    stored = read_split(home, "s")

    counts = [Counter(stored.parts(fold, share).values()) for fold in range(4) for share in (None, 0.1)]

    assert counts == 4 * [{"train": 10, "val": 5, "test": 5}, {"train": 13, "val": 2, "test": 5}]


def test_a_holdout_file_names_the_test_part(home: str, tmp_path: Path) -> None:
    listed = tmp_path / "held.txt"
    listed.write_text("# one scan and one patient\nP003_1\nP004\nP999\n")
    summary = make(home, holdout=str(listed))
    assert summary["patients"] == {"train": 16, "val": 2, "test": 2}
    assert summary["unknown_holdout_ids"] == ["P999"]
    assert read_split(home, "s").patients("test") == {"P003", "P004"}
    listed.write_text("P999\n")
    with pytest.raises(InputError, match="names no scan of the lake"):
        make(home, name="other", holdout=str(listed))


def test_one_name_is_one_recipe(home: str) -> None:
    make(home, seed=0)
    with pytest.raises(ConfigError, match="Choose another --name"):
        make(home, seed=1)


def test_a_split_that_was_changed_by_hand_is_refused(home: str) -> None:
    make(home)
    card = storage.read_json(Lake(home).split_card("s"))
    storage.write_json(Lake(home).split_card("s"), {**card, "hash": "0" * 64})
    with pytest.raises(InputError, match="is not what its card says"):
        read_split(home, "s")


def test_unknown_splits_name_the_known_ones(home: str) -> None:
    make(home)
    with pytest.raises(InputError, match="has no split t; expected s;"):
        read_split(home, "t")
    with pytest.raises(ConfigError, match="expected test or train or val; found tset"):
        read_split(home, "s").patients("tset")


@pytest.mark.parametrize(
    "wrong",
    [
        {"fractions": "0.5,0.5"},
        {"fractions": "0.5,0.4,0.2"},
        {"fractions": "a,b,c"},
        {"folds": 1},
        {"fractions": "nan,0,1"},
        {"fractions": "0.5,nan,0.5"},
        {"folds": 3, "fractions": "1,0,0"},
        {"name": "../up"},
    ],
)
def test_wrong_arguments_quote_their_flag(home: str, wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="--") as caught:
        make(home, **wrong)
    assert caught.value.exit_code == 2


def test_two_folds_are_refused_naming_the_least_that_can_run(home: str) -> None:
    with pytest.raises(ConfigError, match="expected at least 3; found 2"):
        make(home, folds=2)


def test_more_folds_than_patients_are_refused(home: str) -> None:
    for folds in (21, 1_000_000_000):
        with pytest.raises(ConfigError, match=f"expected 3 to 20; found {folds}"):
            make(home, folds=folds)
    assert not storage.exists(Lake(canonical(home)).split_card("s"))


def test_a_holdout_of_everybody_is_refused(home: str, tmp_path: Path) -> None:
    listed = tmp_path / "held.txt"
    listed.write_text("\n".join(f"P{number:03}" for number in range(20)))
    with pytest.raises(ConfigError, match="expected at least 2 patients"):
        make(home, holdout=str(listed))


def test_a_holdout_of_a_windows_editor_is_read(home: str, tmp_path: Path) -> None:
    listed = tmp_path / "held.txt"
    listed.write_bytes("P003\r\nP004\r\n".encode("utf-16"))
    assert make(home, holdout=str(listed))["patients"]["test"] == 2


def test_patients_that_share_a_picture_are_on_one_side(home: str) -> None:
    shared = {3: b"s", 7: b"s", 8: b"t", 12: b"t", 13: b"t"}
    rows = [
        {
            "scan_id": f"P{patient:03}_0",
            "patient_id": f"P{patient:03}",
            "histogram": [],
            "heat_map": [],
            "image_hashes": [shared.get(patient, b""), b"own %d" % patient],
        }
        for patient in range(20)
        if patient in shared
    ]
    write_small(Lake(canonical(home)).totals, TOTALS, rows)
    assert make(home, folds=5)["kept_together"] == 5
    parts = read_split(canonical(home), "s").assigned
    assert parts["P003"] == parts["P007"]
    assert parts["P008"] == parts["P012"] == parts["P013"]
