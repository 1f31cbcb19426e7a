from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from slicemill.config import CompareConfig
from slicemill.errors import ConfigError, InputError
from slicemill.io import storage
from slicemill.io.storage.uri import canonical, join
from slicemill.pipelines import compare

FIRST = {"Pa": 0.9, "Pb": 0.8, "Pc": 0.7, "Pd": 0.6}
SECOND = {"Pb": 0.7, "Pc": 0.6, "Pd": 0.5, "Pe": 0.1}


def write_crossval(home: Path, dice: Mapping[str, float], accuracy: Mapping[str, float] | None = None) -> str:
    """What `crossval` leaves, of made-up numbers; two folds of 30 and 60 seconds."""
    fold = {
        "task": "classify" if accuracy else "segment",
        "architecture": "made-up",
        "input_size": 64,
        "parameters": 2_500_000,
        "training_device": "cpu",
    }
    interval = {"value": 0.9, "low": 0.8, "high": 0.95}
    told: dict[str, Any] = {
        "split": "two",
        "data_hash": "d" * 64,
        "machine": {},
        "command": "slicemill crossval",
        "folds": [
            {**fold, "training_seconds": 30.0, "scoring_slices_per_second": 10.0},
            {**fold, "training_seconds": 60.0, "scoring_slices_per_second": 20.0},
        ],
        "out_of_fold": [
            {"patient_id": name, "scan_id": name, "dice": value, "slice_mean_dice": value / 2}
            for name, value in dice.items()
        ],
    }
    if accuracy:
        rows = [
            {"patient_id": name, "scan_id": name, "dice": None, "slice_mean_dice": None} for name in accuracy
        ]
        told |= {"out_of_fold": rows, "patient_accuracy": accuracy}
        told |= {"slice_accuracy": interval, "slice_auroc": interval}
    storage.write_json(join(canonical(str(home)), "crossval.json"), told)
    return str(home)


def compared(tmp_path: Path, *runs: str) -> dict[str, Any]:
    summary = compare.run(CompareConfig(out=str(tmp_path / "out"), run=runs))
    assert summary["status"] == "done"
    found: dict[str, Any] = json.loads((tmp_path / "out" / "compare.json").read_text())
    return found


def test_means_and_differences_are_those_by_hand(tmp_path: Path) -> None:
    first, second = write_crossval(tmp_path / "a", FIRST), write_crossval(tmp_path / "b", SECOND)

    found = compared(tmp_path, f"ours={first}", f"theirs={second}")

    ours, theirs = found["runs"]
    assert (ours["name"], ours["patients"], ours["judged_on"]) == ("ours", 4, "out of fold")
    assert ours["mean_patient_dice"]["value"] == pytest.approx(0.75)
    assert ours["slice_mean_dice"]["value"] == pytest.approx(0.375)
    assert theirs["mean_patient_dice"]["value"] == pytest.approx(0.475)
    assert (ours["training_seconds"], ours["scoring_slices_per_second"]) == (90.0, 15.0)
    (difference,) = found["differences"]
    # Only the three patients that both have; each better by 0.1, so the interval is a point.
    assert (difference["patients"], difference["first_better"], difference["second_better"]) == (3, 3, 0)
    for end in ("value", "low", "high"):
        assert difference["mean_difference"][end] == pytest.approx(0.1)
    # Of the eight ways to set three signs, two give a sum as large.
    assert difference["p_value"] == pytest.approx(2 / 8, abs=0.01)


def test_the_table_is_in_markdown_and_in_html(tmp_path: Path) -> None:
    first, second = write_crossval(tmp_path / "a", FIRST), write_crossval(tmp_path / "b", SECOND)

    found = compared(tmp_path, f"ours | x={first}", second)

    text = (tmp_path / "out" / "compare.md").read_text()
    assert "| ours \\| x | made-up, 64 px | out of fold | 4 | 0.750 (" in text
    assert "| 2.50 | 1.5 (2 models) | 15.0 |" in text
    assert "| ours \\| x | b | volumetric Dice | 3 | +0.100 (+0.100 to +0.100) | 0.25 | 3 | 0 |" in text
    assert found["machine"]["processor"] in text
    page = (tmp_path / "out" / "compare.html").read_text()
    assert "ours | x" in page
    assert "+0.100 (+0.100 to +0.100)" in page


def test_a_classifier_is_compared_with_its_like_by_accuracy(tmp_path: Path) -> None:
    segmenter = write_crossval(tmp_path / "a", FIRST)
    one = write_crossval(tmp_path / "b", {}, {"Pa": 0.5, "Pb": 1.0})
    other = write_crossval(tmp_path / "c", {}, {"Pa": 1.0, "Pb": 1.0})

    found = compared(tmp_path, segmenter, one, other)

    assert [line["mean_patient_dice"] is None for line in found["runs"]] == [False, True, True]
    (difference,) = found["differences"]
    assert (difference["first"], difference["second"], difference["of"]) == ("b", "c", "patient_accuracy")
    assert difference["mean_difference"]["value"] == pytest.approx(-0.25)


def test_a_folder_without_a_result_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no result"):
        compared(tmp_path, f"nothing={tmp_path}")


def test_what_an_earlier_release_wrote_is_to_be_written_anew(tmp_path: Path) -> None:
    home = canonical(write_crossval(tmp_path / "a", FIRST))
    told = storage.read_json(join(home, "crossval.json"))
    del told["machine"]
    storage.write_json(join(home, "crossval.json"), told)

    with pytest.raises(InputError, match=r"is of an earlier release.*Run the same command again"):
        compared(tmp_path, home)


@pytest.mark.parametrize("runs", [(), ("a=x", "a=y"), ("x/a", "y/a"), ("=x",)])
def test_each_run_has_a_name_of_its_own(runs: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError, match="--run"):
        CompareConfig(out="out", run=runs)
