"""What ingest makes of folders, patients and tables as people have them; Spark is left out."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from raw_builder import SCAN_IDS, write_raw, write_scan
from tiff_builder import build

from slicemill.config import IngestConfig
from slicemill.config.lake import FIRST_SCAN_PATTERN
from slicemill.errors import ConfigError, StorageError
from slicemill.io.lake.reader import read_lake_scan, read_scans
from slicemill.io.storage.uri import canonical
from slicemill.pipelines import ingest

ODD_NAMES = ("a" * 193, "患者" * 12 + "患", "Zoé #1?")


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    (tmp_path / "raw").mkdir()
    return tmp_path / "raw"


@pytest.fixture
def lake(tmp_path: Path) -> Path:
    return tmp_path / "lake"


def run(raw: Path, lake: Path, **more: Any) -> dict[str, Any]:
    return ingest.run(IngestConfig(raw=(str(raw),), lake=str(lake), **more))


def table(lake: Path, name: str) -> list[dict[str, Any]]:
    return pq.ParquetFile(lake / name / "part-0.parquet").read().to_pylist()


def reasons(lake: Path) -> dict[str, str]:
    return {row["uri"].removeprefix("file://"): row["reason"] for row in table(lake, "quarantine")}


def findings(lake: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((lake / "profile.json").read_text())["findings"]
    return found


def data_files(lake: Path) -> list[str]:
    files = [path for name in ("slices", "profile") for path in (lake / name).rglob("*") if path.is_file()]
    return sorted(str(path.relative_to(lake)) for path in files)


def test_no_scan_gets_the_masks_of_another_folder_of_its_name(raw: Path, lake: Path) -> None:
    write_scan(raw / "siteA", "scan_1", masks=False)
    write_scan(raw / "siteB", "scan_1", side=16)
    summary = run(raw, lake)
    (row,) = read_scans(canonical(str(lake)))
    scan = read_lake_scan(canonical(str(lake)), row)
    assert all("siteA" in slice_.source_uri and slice_.mask is None for slice_ in scan.slices)
    assert reasons(lake) == {str(raw / "siteB" / "scan_1"): "duplicate_scan"}
    assert (summary["quarantined"], summary["unlabelled_slices"]) == (1, 4)


def test_a_copy_with_another_mask_of_the_same_size_is_set_aside(raw: Path, lake: Path) -> None:
    first = write_scan(raw, SCAN_IDS[0])
    second = shutil.copytree(first, raw / "archive" / SCAN_IDS[0])
    run(raw, lake)
    assert reasons(lake) == {}
    shutil.copy(first / f"{SCAN_IDS[0]}_2_mask.tif", second / f"{SCAN_IDS[0]}_4_mask.tif")
    assert run(raw, lake)["tumour_slices"] == 2
    assert reasons(lake) == {str(second): "duplicate_scan"}


def test_a_run_of_which_no_slice_comes_is_not_done(raw: Path, lake: Path) -> None:
    folder = write_scan(raw, SCAN_IDS[0], masks=False)
    for path in folder.iterdir():
        path.write_bytes(b"no picture")
    for _ in range(2):
        summary = run(raw, lake)
        assert (summary["status"], summary["quarantined"]) == ("failed", 4)
        assert "every file was set aside" in summary["error"]
    write_scan(raw, SCAN_IDS[1])
    assert run(raw, lake)["status"] == "done"
    (write_scan(raw, SCAN_IDS[2], slices=1, masks=False) / f"{SCAN_IDS[2]}_1.tif").write_bytes(b"no picture")
    assert run(raw, lake)["status"] == "data_short"
    assert run(raw, lake)["status"] == "done"


def test_an_implausible_mask_is_kept_counted_and_named(
    raw: Path, lake: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = write_scan(raw, SCAN_IDS[0])
    assert run(raw, lake)["implausible_masks"] == 0
    assert findings(lake)["implausible_masks"] == {}
    (folder / f"{SCAN_IDS[0]}_3_mask.tif").write_bytes(build(np.full((32, 32, 1), 255, np.uint8)))
    summary = run(raw, lake)
    assert (summary["implausible_masks"], summary["quarantined"], summary["tumour_slices"]) == (1, 0, 3)
    assert findings(lake)["implausible_masks"] == {SCAN_IDS[0]: [3]}
    assert findings(lake)["doubts"] == {SCAN_IDS[0]: ["masks cover every pixel: slice 3"]}
    assert SCAN_IDS[0] in caplog.text


def test_what_is_not_labelled_is_counted_and_named(raw: Path, lake: Path) -> None:
    write_scan(raw, SCAN_IDS[0])
    write_scan(raw, SCAN_IDS[1], masks=False)
    for number in (1, 3, 4):
        (raw / SCAN_IDS[0] / f"{SCAN_IDS[0]}_{number}_mask.tif").unlink()
    summary = run(raw, lake)
    assert (summary["unlabelled_scans"], summary["unlabelled_slices"]) == (1, 7)
    assert findings(lake)["unlabelled_scans"] == [SCAN_IDS[1]]
    assert findings(lake)["unlabelled_slices"] == {SCAN_IDS[0]: 3}


def test_formats_that_are_not_read_are_counted_named_and_warned_of(
    raw: Path, lake: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_scan(raw, SCAN_IDS[0])
    (raw / "scan_2.zip").write_bytes(b"PK")
    (raw / "scan_3").mkdir()
    (raw / "scan_3" / "1.dcm").write_bytes(b"DICM")
    assert run(raw, lake)["other_formats"] == 2
    assert findings(lake)["other_formats"] == {
        "dcm": {f"file://{raw}/scan_3": 1},
        "zip": {f"file://{raw}/scan_2.zip": 1},
    }
    assert f"1 zip files are not read: {raw}/scan_2.zip" in caplog.text


def test_folders_that_the_pattern_does_not_match_are_counted_and_warned_of(
    raw: Path, lake: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("P1_visit1", "P1_visit2", "P2_visit1", SCAN_IDS[0]):
        write_scan(raw, name, slices=1)
    assert run(raw, lake)["unmatched_folders"] == 3
    assert "does not match 3 of 4 folders" in caplog.text
    assert "--scan-pattern patient_visit would match 3 of them" in caplog.text
    summary = run(raw, lake.with_name("other"), scan_pattern="patient_visit")
    assert summary["unmatched_folders"] == 1
    patients = {row["patient_id"] for row in table(lake.with_name("other"), "scans")}
    assert patients == {"P1", "P2", SCAN_IDS[0]}


def test_a_pattern_that_names_no_patient_is_refused(raw: Path, lake: Path) -> None:
    write_raw(raw)
    with pytest.raises(ConfigError, match="does not say whose scan a folder is"):
        run(raw, lake, scan_pattern=r".+_\d{8}")


def test_a_list_of_patients_moves_scans_and_is_kept(raw: Path, lake: Path, tmp_path: Path) -> None:
    write_raw(raw)
    assert run(raw, lake)["read"] == 3
    listed = tmp_path / "patients.csv"
    listed.write_text(f"scan,patient\n{SCAN_IDS[0]},0042\n{SCAN_IDS[1]},0042\n")
    moved = run(raw, lake, patients=str(listed))
    assert (moved["read"], moved["skipped_unchanged"], moved["leftovers"]) == (2, 1, 4)
    expected = {SCAN_IDS[0]: "0042", SCAN_IDS[1]: "0042", SCAN_IDS[2]: "TEST_BB_0003"}
    for _ in range(2):
        assert {row["scan_id"]: row["patient_id"] for row in table(lake, "scans")} == expected
        assert len(data_files(lake)) == 6
        assert run(raw, lake)["read"] == 0


def test_clinical_columns_stay_and_few_joins_are_warned_of(
    raw: Path, lake: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("0042_20200101", "0043_20200101", "0044_20200101"):
        write_scan(raw, name, slices=1)
    clinical = tmp_path / "data.csv"
    clinical.write_text("Patient,age\n0042,51\n")
    summary = run(raw, lake, scan_pattern="patient_date", clinical=str(clinical))
    assert summary["clinical_patients"] == 1
    assert "only 1 of 3 patients" in caplog.text
    write_scan(raw, "0042_20210101", slices=1)
    run(raw, lake, scan_pattern="patient_date")
    ages = {row["scan_id"]: row["age"] for row in table(lake, "scans")}
    assert ages == {
        "0042_20200101": 51,
        "0042_20210101": 51,
        "0043_20200101": None,
        "0044_20200101": None,
    }


def test_a_patient_that_is_withdrawn_between_data_and_commit_leaves_nothing(raw: Path, lake: Path) -> None:
    write_raw(raw)
    run(raw, lake)
    # Killed before the commit; then the folder is taken away.
    next((lake / "_commits").glob(f"{SCAN_IDS[0]}*")).unlink()
    shutil.rmtree(raw / SCAN_IDS[0])
    for folder in ("_commits", "slices/patient_id=TEST_AA_0001", "scans"):
        (lake / folder / ".0123456789abcdef.1.2.draft").write_bytes(b"half")
    assert run(raw, lake)["leftovers"] == 5
    assert not list(lake.rglob(f"*{SCAN_IDS[0]}*"))
    assert not list(lake.rglob("*.draft"))
    assert len(data_files(lake)) == 4


def test_a_gone_scan_stays_until_it_is_pruned_to_the_last_object(raw: Path, lake: Path) -> None:
    write_raw(raw)
    run(raw, lake)
    shutil.rmtree(raw / SCAN_IDS[0])
    assert (run(raw, lake)["gone"], len(data_files(lake))) == (1, 6)
    assert run(raw, lake, prune=True)["pruned"] == 1
    assert not list(lake.rglob(f"*{SCAN_IDS[0]}*"))
    assert SCAN_IDS[0].encode() not in b"".join(
        path.read_bytes() for path in lake.rglob("*") if path.is_file()
    )


def test_a_folder_that_can_not_be_listed_prunes_nothing(
    raw: Path, lake: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_raw(raw)
    run(raw, lake)
    listdir = os.listdir

    def denied(path: str) -> list[str]:
        if str(path).endswith(SCAN_IDS[0]):
            raise PermissionError(13, "Permission denied")
        return listdir(path)

    monkeypatch.setattr(os, "listdir", denied)
    with pytest.raises(StorageError, match="can't be listed"):
        run(raw, lake, prune=True)
    assert len(data_files(lake)) == 6


def test_results_below_the_raw_folder_are_not_raw(raw: Path) -> None:
    write_raw(raw)
    write_scan(raw / "out" / "masks", SCAN_IDS[0], slices=1)
    (raw / "out" / "scores.json").write_text("{}")
    for _ in range(2):
        summary = run(raw, raw / "lake")
        assert (summary["scans"], summary["quarantined"], summary["gone"]) == (3, 0, 0)


def test_corrected_masks_of_the_same_size_and_time_are_read_again(raw: Path, lake: Path) -> None:
    folder = write_scan(raw, SCAN_IDS[0])
    masks = [folder / f"{SCAN_IDS[0]}_{number}_mask.tif" for number in (1, 2)]
    for path in folder.iterdir():
        os.utime(path, (9e8, 9e8))
    run(raw, lake)
    masks[0].write_bytes(masks[1].read_bytes())
    os.utime(masks[0], (9e8, 9e8))
    summary = run(raw, lake)
    assert (summary["read"], summary["tumour_slices"]) == (1, 3)


@pytest.mark.parametrize("bucket", [0, 2])
def test_odd_names_and_numbers_fell_no_run(raw: Path, lake: Path, bucket: int) -> None:
    write_scan(raw, SCAN_IDS[0], slices=2)
    for name in ODD_NAMES:
        write_scan(raw, name, slices=1)
    for name in (b"scan\xff", b"b" * 201):
        os.mkdir(os.fsencode(raw) + b"/" + name)
        Path(os.fsdecode(os.fsencode(raw) + b"/" + name + b"/x_1.tif")).write_bytes(b"")
    far = raw / SCAN_IDS[0] / f"{SCAN_IDS[0]}_999999999.tif"
    shutil.copy(raw / SCAN_IDS[0] / f"{SCAN_IDS[0]}_1.tif", far)
    summary = run(raw, lake, bucket=bucket)
    assert (summary["status"], summary["scans"], summary["slices"]) == ("done", 4, 6)
    assert sorted(reasons(lake).values()) == ["unusable_name", "unusable_name"]
    for row in read_scans(canonical(str(lake))):
        assert read_lake_scan(canonical(str(lake)), row).slices
    assert run(raw, lake, bucket=bucket)["skipped_unchanged"] == 4


def test_pipes_do_not_hang_a_run(raw: Path, lake: Path) -> None:
    write_scan(raw, SCAN_IDS[0])
    os.mkfifo(raw / SCAN_IDS[0] / f"{SCAN_IDS[0]}_5.tif")
    (raw / SCAN_IDS[0] / f"{SCAN_IDS[0]}_4_mask.tif").unlink()
    (raw / SCAN_IDS[0] / f"{SCAN_IDS[0]}_4_mask.tif").symlink_to("/dev/zero")
    assert run(raw, lake)["slices"] == 4
    assert set(reasons(lake).values()) == {"unreadable"}


def test_a_lake_of_an_earlier_release_goes_on(raw: Path, lake: Path) -> None:
    """The card has the first pattern, the fingerprint is of another kind, names were escaped otherwise."""
    write_scan(raw, SCAN_IDS[0])
    write_scan(raw, "Zoé", slices=2)
    run(raw, lake)
    card = json.loads((lake / "lake.json").read_text())
    (lake / "lake.json").write_text(json.dumps({**card, "scan_pattern": FIRST_SCAN_PATTERN}))
    for name in ("slices", "profile"):
        (lake / name / "patient_id=Zoé").rename(lake / name / "patient_id=Zo%C3%A9")
    commit = next((lake / "_commits").glob("Zoé--*"))
    rows = json.loads(commit.read_text())
    rows["scan"] |= {
        "data_uri": "slices/patient_id=Zo%C3%A9/Zoé.parquet",
        "source_fingerprint": "0" * 32,
    }
    commit.with_name(f"Zo%C3%A9--{'0' * 32}.json").write_text(json.dumps(rows))
    commit.unlink()
    before = {row["scan_id"]: row["content_hash"] for row in table(lake, "scans")}
    again = run(raw, lake)
    assert (again["read"], again["skipped_unchanged"], again["leftovers"]) == (1, 1, 2)
    assert {row["scan_id"]: row["content_hash"] for row in table(lake, "scans")} == before
    assert [name for name in data_files(lake) if "Zo" in name] == [
        "profile/patient_id=Zoé/Zoé.parquet",
        "slices/patient_id=Zoé/Zoé.parquet",
    ]
