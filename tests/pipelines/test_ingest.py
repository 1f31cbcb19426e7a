from __future__ import annotations

import hashlib
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession
from raw_builder import SCAN_IDS, image, mask, write_raw, write_scan
from tiff_builder import Form, build

from slicemill.config import IngestConfig
from slicemill.errors import BusyError, ConfigError, InputError, LakeVersionError
from slicemill.io import storage
from slicemill.io.lake.reader import read_lake_scan, read_scans
from slicemill.io.storage.lock import sole_writer
from slicemill.io.storage.uri import canonical
from slicemill.pipelines import ingest


def run(spark: SparkSession, raw: object, lake: object, **more: Any) -> dict[str, Any]:
    return ingest.run(IngestConfig(raw=(str(raw),), lake=str(lake), **more), spark)


def rows(lake: object, table: str) -> list[dict[str, Any]]:
    return pq.read_table(Path(str(lake)) / table / "part-0.parquet").to_pylist()


def quarantine(lake: object) -> dict[str, str]:
    return {row["uri"].rpartition("/")[2]: row["reason"] for row in rows(lake, "quarantine")}


def files(lake: Path) -> dict[str, str]:
    """Content of every data file below a lake, by hash."""
    found = sorted(
        path for path in lake.rglob("*.parquet") if path.parts[len(lake.parts)] in ("slices", "profile")
    )
    return {str(path.relative_to(lake)): hashlib.sha256(path.read_bytes()).hexdigest() for path in found}


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    return write_raw(tmp_path / "raw")


@pytest.fixture
def lake(tmp_path: Path) -> Path:
    return tmp_path / "lake"


def test_good_scans_arrive_whole(spark: SparkSession, raw: Path, lake: Path) -> None:
    summary = run(spark, raw, lake)
    assert summary["status"] == "done"
    counts = ("scans", "slices", "tumour_slices", "quarantined", "skipped_unchanged")
    assert [summary[name] for name in counts] == [3, 12, 6, 0, 0]
    for row in read_scans(canonical(str(lake))):
        scan = read_lake_scan(canonical(str(lake)), row)
        assert [one.slice_index for one in scan.slices] == [1, 2, 3, 4]
        for one in scan.slices:
            assert np.array_equal(one.image, image(scan.scan_id, one.slice_index))
            assert np.array_equal(one.mask, mask(one.slice_index))


def test_spark_reads_the_lake_with_its_partitions(spark: SparkSession, raw: Path, lake: Path) -> None:
    run(spark, raw, lake)
    slices = spark.read.parquet(str(lake / "slices"))
    assert {row.patient_id for row in slices.select("patient_id").distinct().collect()} == {
        "TEST_AA_0001",
        "TEST_AA_0002",
        "TEST_BB_0003",
    }
    assert slices.filter("tumour_pixels > 0").count() == 6
    assert spark.read.parquet(str(lake / "profile")).count() == 12 * 3
    assert spark.read.parquet(str(lake / "scans")).filter("institution = 'AA'").count() == 2


def test_every_reader_gets_patient_ids_as_they_are(spark: SparkSession, tmp_path: Path, lake: Path) -> None:
    patients = ["0042", "P 1", "\u60a3\u8005"]
    for patient in patients:
        write_scan(tmp_path / "raw", f"{patient}_20200101", slices=1)
    run(spark, tmp_path / "raw", lake, scan_pattern="patient_date")
    read = spark.read.parquet(str(lake / "slices")).select("patient_id").collect()
    assert sorted(row.patient_id for row in read) == patients
    # As docs/ingest.md shows them.
    partitioning = ds.partitioning(pa.schema([("patient_id", pa.string())]), flavor="hive")
    table = ds.dataset(lake / "slices", partitioning=partitioning).to_table(columns=["patient_id"])
    assert sorted(table.column(0).to_pylist()) == patients
    frame = pd.read_parquet(lake / "slices", columns=["patient_id"], partitioning=partitioning)
    assert sorted(frame["patient_id"]) == patients


def test_one_row_group_holds_one_scan(spark: SparkSession, raw: Path, lake: Path) -> None:
    run(spark, raw, lake)
    found = sorted((lake / "slices").rglob("*.parquet"))
    assert len(found) == 3
    for path in found:
        file = pq.ParquetFile(path)
        assert file.num_row_groups == 1
        assert set(file.read(["scan_id"]).column(0).to_pylist()) == {path.stem}


def test_unchanged_scans_are_skipped_changed_ones_replaced_gone_ones_reported(
    spark: SparkSession, raw: Path, lake: Path
) -> None:
    run(spark, raw, lake)
    before = files(lake)
    again = run(spark, raw, lake)
    assert (again["skipped_unchanged"], again["read"], again["slices"]) == (3, 0, 12)
    assert files(lake) == before

    (raw / SCAN_IDS[0] / f"{SCAN_IDS[0]}_4.tif").unlink()
    (raw / SCAN_IDS[0] / f"{SCAN_IDS[0]}_4_mask.tif").unlink()
    shutil.rmtree(raw / SCAN_IDS[1])
    changed = run(spark, raw, lake)
    assert (changed["read"], changed["skipped_unchanged"], changed["gone"], changed["slices"]) == (
        1,
        1,
        1,
        11,
    )

    pruned = run(spark, raw, lake, prune=True)
    assert (pruned["scans"], pruned["slices"], pruned["pruned"]) == (2, 7, 1)
    assert not list((lake / "slices").rglob(f"{SCAN_IDS[1]}*"))
    assert not list((lake / "profile").rglob(f"{SCAN_IDS[1]}*"))


def test_a_run_killed_before_it_published_loses_no_work(spark: SparkSession, raw: Path, lake: Path) -> None:
    run(spark, raw, lake)
    whole = {name: rows(lake, name) for name in ("scans", "totals")}
    for name in ("scans", "totals", "quarantine"):
        shutil.rmtree(lake / name)
    (lake / "profile.json").unlink()
    assert run(spark, raw, lake)["skipped_unchanged"] == 3
    assert {name: rows(lake, name) for name in whole} == whole


def test_a_scan_killed_before_its_commit_is_done_again(spark: SparkSession, raw: Path, lake: Path) -> None:
    run(spark, raw, lake)
    before = files(lake)
    next((lake / "_commits").glob(f"{SCAN_IDS[2]}*")).unlink()
    next((lake / "slices").rglob(f"{SCAN_IDS[2]}*")).write_bytes(b"half")
    assert run(spark, raw, lake)["read"] == 1
    assert files(lake) == before


def test_a_second_writer_is_refused(spark: SparkSession, raw: Path, lake: Path) -> None:
    with sole_writer(canonical(str(lake)), "other"), pytest.raises(BusyError, match="another run is writing"):
        run(spark, raw, lake)
    assert run(spark, raw, lake)["scans"] == 3


def test_the_double_nesting_of_the_public_archive_is_taken_once(
    spark: SparkSession, raw: Path, lake: Path, tmp_path: Path
) -> None:
    shutil.copytree(raw, raw / "nested" / "again")
    assert run(spark, raw, lake)["quarantined"] == 0
    shutil.rmtree(raw / "nested")
    run(spark, raw, tmp_path / "plain")
    assert files(lake) == files(tmp_path / "plain")


def damage(raw: Path) -> dict[str, str]:
    """Spoil the first scan in every way that one folder can hold; return the reasons by file name."""
    scan, folder = SCAN_IDS[0], raw / SCAN_IDS[0]
    write_scan(raw, scan, slices=12)
    good = (folder / f"{scan}_1.tif").read_bytes()
    gray = np.zeros((32, 32, 1), np.uint8)
    spoiled = {
        f"{scan}_2.tif": (good[:100], "truncated"),
        f"{scan}_3.tif": (b"", "truncated"),
        f"{scan}_4.tif": (b"\x89PNG" + good[4:], "not_a_tiff"),
        f"{scan}_5.tif": (build(image(scan, 5, side=16)), "unexpected_shape"),
        f"{scan}_6_mask.tif": (good, "mask_not_binary"),
        f"{scan}_7_mask.tif": (build(gray[:16]), "mask_shape_differs"),
        f"{scan}_8_mask.tif": (build(gray + np.uint8(7)), "mask_not_binary"),
        f"{scan}_77_mask.tif": (build(gray), "orphan_mask"),
        f"{scan}_x.tif": (good, "unparsable_name"),
        "holiday.tif": (good, "unparsable_name"),
    }
    for name, (data, _) in spoiled.items():
        (folder / name).write_bytes(data)
    # The small slice 5 has a mask of the scan's size.
    misfit = {f"{scan}_5_mask.tif": "mask_shape_differs"}
    return {name: reason for name, (_, reason) in spoiled.items()} | misfit


def test_bad_files_are_set_aside_with_their_reason_and_good_ones_go_on(
    spark: SparkSession, raw: Path, lake: Path
) -> None:
    expected = damage(raw)
    (raw / "TEST_CC_0009_20200109").mkdir()
    summary = run(spark, raw, lake)
    found = quarantine(lake)
    assert found.pop("") == "empty_folder"
    assert found == expected
    assert (summary["quarantined"], summary["scans"]) == (len(expected) + 1, 3)
    for row in rows(lake, "quarantine"):
        assert row["detail"]
        assert row["job_id"].startswith("ingest-")
    (spoiled,) = [row for row in read_scans(canonical(str(lake))) if row.scan_id == SCAN_IDS[0]]
    scan = read_lake_scan(canonical(str(lake)), spoiled)
    assert [one.slice_index for one in scan.slices] == [1, 6, 7, 8, 9, 10, 11, 12]


def test_a_slice_with_a_bad_mask_is_never_taken_for_healthy(
    spark: SparkSession, raw: Path, lake: Path
) -> None:
    damage(raw)
    run(spark, raw, lake)
    table = pq.read_table(next((lake / "slices").rglob(f"{SCAN_IDS[0]}.parquet")), partitioning=None)
    status = {row["slice_index"]: (row["mask_status"], row["mask"] is None) for row in table.to_pylist()}
    assert status == {n: ("rejected", True) if n in (6, 7, 8) else ("present", False) for n in status}
    (row,) = [row for row in rows(lake, "scans") if row["scan_id"] == SCAN_IDS[0]]
    assert (row["rejected_masks"], row["labelled_slices"]) == (3, 5)


def test_a_scan_without_a_good_slice_leaves_no_data_behind(
    spark: SparkSession, raw: Path, lake: Path
) -> None:
    run(spark, raw, lake)
    for path in (raw / SCAN_IDS[0]).iterdir():
        path.write_bytes(b"gone bad")
    summary = run(spark, raw, lake)
    assert (summary["scans"], summary["slices"]) == (2, 8)
    assert not list((lake / "slices").rglob(f"{SCAN_IDS[0]}*"))
    assert run(spark, raw, lake)["skipped_unchanged"] == 3
    assert len(rows(lake, "quarantine")) == 4


def test_masks_are_optional(spark: SparkSession, tmp_path: Path, lake: Path) -> None:
    write_scan(tmp_path / "raw", SCAN_IDS[0], masks=False)
    summary = run(spark, tmp_path / "raw", lake)
    assert (summary["slices"], summary["tumour_slices"], summary["quarantined"]) == (4, 0, 0)
    assert rows(lake, "scans")[0]["labelled_slices"] == 0


def test_a_folder_of_the_same_name_with_other_content_is_set_aside(
    spark: SparkSession, raw: Path, lake: Path
) -> None:
    shutil.copytree(raw / SCAN_IDS[0], raw / "again" / SCAN_IDS[0])
    odd = raw / "again" / SCAN_IDS[0] / f"{SCAN_IDS[0]}_2.tif"
    odd.write_bytes(build(image("other", 2)))
    summary = run(spark, raw, lake)
    assert quarantine(lake) == {SCAN_IDS[0]: "duplicate_scan"}
    assert summary["slices"] == 12


def test_sixteen_bits_are_scaled_by_the_scan(spark: SparkSession, tmp_path: Path, lake: Path) -> None:
    folder = tmp_path / "raw" / SCAN_IDS[0]
    folder.mkdir(parents=True)
    for number, high in ((1, 1000), (2, 4000)):
        pixels = np.full((8, 8, 3), high, np.uint16)
        (folder / f"{SCAN_IDS[0]}_{number}.tif").write_bytes(build(pixels, Form(order=">")))
    run(spark, tmp_path / "raw", lake)
    table = pq.read_table(next((lake / "slices").rglob("*.parquet")), partitioning=None).to_pylist()
    assert [max(row["image"]) for row in table] == [64, 255]
    assert all("16 bits" in row["conversion"] for row in table)


def test_too_many_bad_files_fall_short_after_everything_is_written(
    spark: SparkSession, raw: Path, lake: Path
) -> None:
    damage(raw)
    assert run(spark, raw, lake, max_bad_fraction=0.01)["status"] == "data_short"
    assert run(spark, raw, lake, max_bad_fraction=0.9)["status"] == "done"
    assert len(rows(lake, "scans")) == 3


def test_the_clinical_table_is_joined_by_patient(
    spark: SparkSession, raw: Path, lake: Path, tmp_path: Path
) -> None:
    table = tmp_path / "data.csv"
    table.write_bytes(
        "\ufeffPatient;gender;age;slices\r\nTEST_AA_0001;2;44;\r\nTEST_ZZ_9999;1;;3\r\n".encode()
    )
    run(spark, raw, lake, clinical=str(table))
    joined = {
        row["patient_id"]: (row["gender"], row["age"], row["clinical_slices"]) for row in rows(lake, "scans")
    }
    assert joined == {
        "TEST_AA_0001": (2, 44, None),
        "TEST_AA_0002": (None, None, None),
        "TEST_BB_0003": (None, None, None),
    }
    clinical = storage.read_json(canonical(str(lake / "profile.json")))["clinical"]
    assert clinical["rows_without_patient"] == ["TEST_ZZ_9999"]
    assert clinical["patients_without_row"] == ["TEST_AA_0002", "TEST_BB_0003"]
    # The next run does not know the table, and keeps what it said.
    again = run(spark, raw, lake)
    assert again["clinical_patients"] == 1
    assert joined == {
        row["patient_id"]: (row["gender"], row["age"], row["clinical_slices"]) for row in rows(lake, "scans")
    }


def test_buckets_hold_the_same_slices(spark: SparkSession, raw: Path, lake: Path) -> None:
    run(spark, raw, lake, bucket=2)
    folders = {path.name for path in (lake / "slices").iterdir()}
    assert folders <= {"patient_bucket=0", "patient_bucket=1"}
    frame = spark.read.parquet(str(lake / "slices"))
    assert frame.select("patient_id").distinct().count() == 3
    assert (
        sum(len(read_lake_scan(canonical(str(lake)), row).slices) for row in read_scans(canonical(str(lake))))
        == 12
    )
    with pytest.raises(ConfigError, match="--bucket differs"):
        run(spark, raw, lake)


def test_wrong_paths_and_lakes_are_one_clear_line(
    spark: SparkSession, raw: Path, lake: Path, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="is not a folder"):
        run(spark, tmp_path / "nowhere", lake)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no TIFF or PNG slices"):
        run(spark, tmp_path / "empty", lake)
    with pytest.raises(ConfigError, match="not a regular expression"):
        run(spark, raw, lake, scan_pattern="(")
    storage.write_json(canonical(str(lake / "lake.json")), {"schema_version": 0})
    with pytest.raises(LakeVersionError, match="expected 1; found 0"):
        run(spark, raw, lake)


@pytest.fixture
def raw_in_s3(raw: Path, bucket: str) -> str:
    for path in raw.rglob("*.tif"):
        storage.write_bytes(f"{bucket}/raw/{path.relative_to(raw)}", path.read_bytes())
    return f"{bucket}/raw"


def test_a_lake_in_s3_holds_the_same_rows_as_one_on_disk(
    spark: SparkSession, raw: Path, raw_in_s3: str, bucket: str, lake: Path
) -> None:
    run(spark, raw, lake)
    assert run(spark, raw_in_s3, f"{bucket}/lake")["slices"] == 12
    in_s3 = {row.scan_id: row.content_hash for row in read_scans(f"{bucket}/lake")}
    assert in_s3 == {row["scan_id"]: row["content_hash"] for row in rows(lake, "scans")}
    assert spark.read.parquet(f"{bucket}/lake/slices").filter("tumour_pixels > 0").count() == 6
    assert run(spark, raw_in_s3, f"{bucket}/lake")["skipped_unchanged"] == 3
