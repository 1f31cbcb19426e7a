"""The lake's small tables when there are many scans: what the driver holds and moves of each."""

from __future__ import annotations

import pickle
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from lake_builder import tiny_scan, write_lake
from lock_holder import held_fence
from raw_builder import write_scan

from slicemill.core.profiles.lake_profile import summarise
from slicemill.io import parquet, storage
from slicemill.io.lake.commits import COMMIT_SUFFIX, ScanCommit
from slicemill.io.lake.published import read_published
from slicemill.io.lake.rows import TotalsRow, columns
from slicemill.io.lake.scan_ingest import commit_or_failure
from slicemill.io.lake.writer import LakeWriter
from slicemill.io.places import Lake
from slicemill.io.raw.listing import find_scans, list_raw, scan_pattern
from slicemill.io.storage.commits import list_commits
from slicemill.io.storage.uri import canonical
from slicemill.schemas import PROFILE, TOTALS


def row(number: int, largest: int = 200) -> TotalsRow:
    counts = np.arange(768) % (largest + 1)
    return TotalsRow(
        f"S{number}", f"P{number}", counts, np.full(64 * 64, number % 7), [bytes([number % 256])]
    )


def test_counts_lie_in_the_smallest_type_that_holds_them() -> None:
    for largest, kind in ((200, np.uint8), (300, np.uint16), (70_000, np.uint32), (2**33, np.uint64)):
        counts = [0, largest]
        assert TotalsRow("S", "P", counts, counts, []).histogram.dtype == kind
        assert TotalsRow("S", "P", counts, counts, []).heat_map.tolist() == counts


def test_sums_of_small_counts_do_not_overflow() -> None:
    profile = summarise([], [columns(row(number)) for number in range(300)])
    assert profile["channels"][0]["histogram"][200] == 300 * 200
    assert profile["heat_map"][0][0] == sum(number % 7 for number in range(300))


def test_a_table_of_many_groups_comes_back_whole_and_in_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parquet, "GROUP_ROWS", 10)
    home = canonical(str(tmp_path))
    write_lake(home, [tiny_scan("a", 2)], {})
    rows = [row(number) for number in range(35)]
    parquet.write_small(Lake(home).totals, TOTALS, map(columns, rows))
    assert pq.ParquetFile(tmp_path / "totals" / parquet.ONE_FILE).num_row_groups == 4
    assert parquet.read_small(Lake(home).totals, TOTALS).num_rows == 35

    stored = list(read_published(home).totals.values())

    assert [one.scan_id for one in stored] == [one.scan_id for one in rows]
    for ours, theirs in zip(stored, rows, strict=True):
        assert ours.histogram.dtype == theirs.histogram.dtype
        np.testing.assert_array_equal(ours.histogram, theirs.histogram)
        np.testing.assert_array_equal(ours.heat_map, theirs.heat_map)
        assert ours.image_hashes == theirs.image_hashes


def test_a_table_without_rows_has_its_schema(tmp_path: Path) -> None:
    home = canonical(str(tmp_path))
    parquet.write_small(Lake(home).totals, TOTALS, [])
    assert parquet.read_small(Lake(home).totals, TOTALS).column_names == list(TOTALS.names)


def test_arrays_and_lists_give_the_same_columns() -> None:
    lists = [{"scan_id": "S", "slice_index": at, "histogram": [at, 2, 3], "tumour_box": []} for at in (1, 2)]
    arrays = [{**of_slice, "histogram": np.array(of_slice["histogram"], np.uint8)} for of_slice in lists]
    assert parquet.to_arrow(PROFILE, arrays).equals(parquet.to_arrow(PROFILE, lists), check_metadata=True)
    mixed = [lists[0], {**arrays[1], "histogram": None}]
    assert parquet.to_arrow(PROFILE, mixed).column("histogram").to_pylist() == [[1, 2, 3], None]


def test_what_a_worker_sends_back_does_not_grow_with_the_files_of_a_scan(tmp_path: Path) -> None:
    sizes = []
    for slices in (2, 40):
        raw, home = tmp_path / f"raw{slices}", canonical(str(tmp_path / f"lake{slices}"))
        write_scan(raw, "TEST_AA_0001_20200101", slices=slices, side=16)
        (task,) = find_scans([str(raw)], list_raw([str(raw)]), scan_pattern("public")).scans
        writer = LakeWriter(held_fence(home), 0, "test", datetime.now(UTC))
        outcome = commit_or_failure(task, writer, 10_000, ())
        assert isinstance(outcome, ScanCommit)
        (commit,) = list_commits(Lake(home).commits, COMMIT_SUFFIX)
        assert len(storage.read_json(commit.uri)["sources"]) == 2 * slices
        sizes.append(len(pickle.dumps(outcome)))
    # Beyond a hash of each picture, by which equal ones are found.
    assert sizes[1] - sizes[0] < 40 * 64
