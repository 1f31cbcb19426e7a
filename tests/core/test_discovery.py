from __future__ import annotations

import re
from datetime import date

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slicemill.config import PUBLIC_SCAN_PATTERN
from slicemill.core.scans.discovery import FoundFile, discover, pack, patient_of
from slicemill.core.scans.integrity import Reason

PATTERN = re.compile(PUBLIC_SCAN_PATTERN)
SCAN = "TCGA_CS_4941_19960909"


def found(path: str, size: int = 10, version: str = "1") -> FoundFile:
    return FoundFile(f"s3://bucket/{path}", size, version)


LISTING = [
    *(found(f"raw/{SCAN}/{SCAN}_{n}.tif") for n in (1, 2, 10)),
    *(found(f"raw/{SCAN}/{SCAN}_{n}_mask.tif") for n in (1, 10, 11)),
    found(f"raw/nested/{SCAN}/{SCAN}_1.tif"),
    found("raw/other/other_7.TIFF"),
    found("raw/other/other_seven.tif"),
    found("raw/other/notes.txt"),
    found("raw/other/.DS_Store"),
    found("raw/data.csv"),
]


def test_a_scan_is_the_folder_that_its_slices_lie_in() -> None:
    scan, other = discover(LISTING, PATTERN).scans
    assert (scan.scan_id, scan.patient_id, scan.institution) == (SCAN, "TCGA_CS_4941", "CS")
    assert scan.scan_date == date(1996, 9, 9)
    assert [one.slice_index for one in scan.slices] == [1, 2, 10]
    assert [one.mask is not None for one in scan.slices] == [True, False, True]
    assert (other.patient_id, other.institution, other.scan_date) == ("other", None, None)
    assert [one.slice_index for one in other.slices] == [7]


def test_what_does_not_belong_is_named_or_counted() -> None:
    result = discover(LISTING, PATTERN)
    reasons = {
        (problem.reason, problem.uri.rpartition("/")[2]) for scan in result.scans for problem in scan.problems
    }
    assert reasons == {
        (Reason.ORPHAN_MASK, f"{SCAN}_11_mask.tif"),
        (Reason.UNPARSABLE_NAME, "other_seven.tif"),
    }
    assert result.ignored == {"csv": 1, "hidden": 1, "txt": 1}


def test_the_copy_nearest_to_the_root_is_taken_and_the_other_kept_to_compare() -> None:
    first = discover(LISTING, PATTERN).scans[0].slices[0]
    assert first.image.uri == f"s3://bucket/raw/{SCAN}/{SCAN}_1.tif"
    assert [copy.uri for copy in first.image_copies] == [f"s3://bucket/raw/nested/{SCAN}/{SCAN}_1.tif"]


def test_an_empty_folder_is_a_problem_of_its_own() -> None:
    (problem,) = discover([*LISTING, FoundFile("file:///raw/lost/", 0, "")], PATTERN).problems
    assert (problem.reason, problem.scan_id) == (Reason.EMPTY_FOLDER, "lost")


@settings(max_examples=100, deadline=None)
@given(st.permutations(LISTING), st.lists(st.sampled_from(LISTING), max_size=5))
def test_neither_order_nor_repetition_of_the_listing_matters(
    order: list[FoundFile], again: list[FoundFile]
) -> None:
    assert discover([*order, *again], PATTERN) == discover(LISTING, PATTERN)


@pytest.mark.parametrize("change", ["size", "version", "name"])
def test_any_change_of_a_file_changes_the_fingerprint(change: str) -> None:
    other = {
        "size": found(f"raw/{SCAN}/{SCAN}_2.tif", size=11),
        "version": found(f"raw/{SCAN}/{SCAN}_2.tif", version="2"),
        "name": found(f"raw/{SCAN}/{SCAN}_3.tif"),
    }[change]
    changed = [other if file.uri.endswith("_2.tif") else file for file in LISTING]
    before, after = discover(LISTING, PATTERN), discover(changed, PATTERN)
    assert before.scans[0].fingerprint != after.scans[0].fingerprint
    assert before.scans[1].fingerprint == after.scans[1].fingerprint


def test_moving_the_root_does_not_change_the_fingerprint() -> None:
    moved = [
        FoundFile(file.uri.replace("s3://bucket/raw", "file:///elsewhere"), file.size, file.version)
        for file in LISTING
    ]
    assert [scan.fingerprint for scan in discover(moved, PATTERN).scans] == [
        scan.fingerprint for scan in discover(LISTING, PATTERN).scans
    ]


def test_an_impossible_date_is_no_date() -> None:
    assert patient_of("TCGA_CS_4941_19961399", PATTERN) == ("TCGA_CS_4941", "CS", None)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(1, 1000), min_size=1, max_size=60), st.integers(1, 12))
def test_packing_loses_nothing_and_leaves_no_straggler(sizes: list[int], parts: int) -> None:
    listing = [found(f"scan{n}/scan{n}_1.tif", size) for n, size in enumerate(sizes)]
    tasks = discover(listing, PATTERN).scans
    shares = pack(tasks, parts)
    assert sorted(task.scan_id for share in shares for task in share) == sorted(
        task.scan_id for task in tasks
    )
    loads = [sum(task.size for task in share) for share in shares]
    # Graham's bound for the largest-first rule.
    assert max(loads) <= sum(sizes) / min(parts, len(sizes)) + max(sizes) + len(sizes)
