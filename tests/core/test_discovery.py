from __future__ import annotations

import re
import unicodedata
from datetime import date

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slicemill.config import PUBLIC_SCAN_PATTERN
from slicemill.core.scans.discovery import Discovery, FoundFile, discover, pack
from slicemill.core.scans.integrity import Problem, Reason
from slicemill.core.scans.surroundings import Surroundings

PATTERN = re.compile(PUBLIC_SCAN_PATTERN)
SCAN = "TCGA_CS_4941_19960909"
ROOT = "s3://bucket/raw"


def found(path: str, size: int = 10, version: str = "1") -> FoundFile:
    return FoundFile(f"s3://bucket/{path}", size, version)


def folder(path: str, numbers: range, masks: range = range(0), size: int = 10) -> list[FoundFile]:
    """A scan folder of images and masks with these slice numbers."""
    name = path.rpartition("/")[2]
    images = [found(f"{path}/{name}_{n}.tif", size) for n in numbers]
    return images + [found(f"{path}/{name}_{n}_mask.tif", 5) for n in masks]


def below_root(*files: FoundFile, **more: object) -> Discovery:
    return discover(files, PATTERN, roots=[ROOT], **more)  # type: ignore[arg-type]


def reasons(problems: tuple[Problem, ...]) -> dict[str, Reason]:
    return {problem.uri.removeprefix("s3://bucket/raw/"): problem.reason for problem in problems}


LISTING = [
    *folder(f"raw/{SCAN}", range(1, 3), range(1, 2)),
    found(f"raw/{SCAN}/{SCAN}_10.tif"),
    found(f"raw/{SCAN}/{SCAN}_10_mask.tif"),
    found(f"raw/{SCAN}/{SCAN}_11_mask.tif"),
    *folder(f"raw/nested/{SCAN}", range(1, 2)),
    found("raw/other/other_7.TIFF"),
    found("raw/other/other_7_mask.PNG"),
    found("raw/other/other_seven.tif"),
    found("raw/other/notes.txt"),
    found("raw/other/.DS_Store"),
    found("raw/data.csv"),
]


def test_a_scan_is_the_folder_that_its_slices_lie_in() -> None:
    scan, other = discover(LISTING, PATTERN).scans
    assert (scan.scan_id, scan.patient_id, scan.institution) == (SCAN, "TCGA_CS_4941", "CS")
    assert scan.scan_date == date(1996, 9, 9)
    assert [files.slice_index for files in scan.slices] == [1, 2, 10]
    assert [files.mask is not None for files in scan.slices] == [True, False, True]
    assert (other.patient_id, other.institution, other.scan_date) == ("other", None, None)
    assert [(files.slice_index, files.mask is not None) for files in other.slices] == [(7, True)]


def test_what_does_not_belong_is_named_or_counted() -> None:
    result = discover(LISTING, PATTERN)
    problems = {
        (problem.reason, problem.uri.rpartition("/")[2]) for scan in result.scans for problem in scan.problems
    }
    assert problems == {
        (Reason.ORPHAN_MASK, f"{SCAN}_11_mask.tif"),
        (Reason.UNPARSABLE_NAME, "other_seven.tif"),
    }
    assert result.ignored == {"csv": 1, "hidden": 1, "txt": 1}


def test_a_copy_in_another_folder_is_kept_to_compare() -> None:
    (scan, _) = discover(LISTING, PATTERN).scans
    assert scan.slices[0].image.uri == f"{ROOT}/{SCAN}/{SCAN}_1.tif"
    assert [copy.uri for copy in scan.slices[0].image_copies] == [f"{ROOT}/nested/{SCAN}/{SCAN}_1.tif"]
    assert scan.folders == (f"{ROOT}/{SCAN}", f"{ROOT}/nested/{SCAN}")


def test_a_set_that_lies_nested_in_itself_is_the_set() -> None:
    once = folder(f"raw/{SCAN}", range(1, 4), range(1, 4)) + folder("raw/scan_2", range(1, 4))
    again = [found(file.uri.replace("s3://bucket/raw/", "raw/raw/"), file.size) for file in once]
    plain, nested = below_root(*once), below_root(*once, *again)
    assert [scan.scan_id for scan in nested.scans] == [scan.scan_id for scan in plain.scans]
    assert all(not scan.problems for scan in nested.scans)
    assert [[(files.image, files.mask) for files in scan.slices] for scan in nested.scans] == [
        [(files.image, files.mask) for files in scan.slices] for scan in plain.scans
    ]


@pytest.mark.parametrize(
    ("second", "difference"),
    [
        # Another patient's scan.
        (folder("raw/b/scan_1", range(11, 14), range(11, 14)), "no image in common"),
        (folder("raw/b/scan_1", range(1, 4), range(1, 4), size=11), "scan_1_1.tif has 11 bytes, not 10"),
        # An old copy that lends its masks.
        (folder("raw/b/scan_1", range(1, 4), range(1, 4)), "3 files more, such as scan_1_1_mask.tif"),
        # A copy that still has what was taken away.
        (folder("raw/b/scan_1", range(1, 6)), "2 files more, such as scan_1_4.tif"),
        # Masks in a folder of their own.
        (folder("raw/b/scan_1", range(0), range(1, 4)), "no image in common"),
    ],
)
def test_another_folder_of_the_name_is_set_aside_whole(second: list[FoundFile], difference: str) -> None:
    alone = folder("raw/a/scan_1", range(1, 4))
    (scan,) = below_root(*alone, *second).scans
    assert [(problem.uri, problem.reason, problem.found) for problem in scan.problems] == [
        (f"{ROOT}/b/scan_1", Reason.DUPLICATE_SCAN, difference)
    ]
    assert scan.slices == below_root(*alone).scans[0].slices


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from("abc"), st.integers(1, 4), st.booleans(), st.integers(1, 2)),
        min_size=1,
        max_size=20,
    )
)
def test_a_mask_only_comes_from_its_images_folder(files: list[tuple[str, int, bool, int]]) -> None:
    listing = [
        found(f"raw/{site}/scan/scan_{number}{'_mask' if mask else ''}.tif", size)
        for site, number, mask, size in files
    ]
    for scan in below_root(*listing).scans:
        for slice_files in scan.slices:
            masks = [slice_files.mask] if slice_files.mask else []
            for file in (slice_files.image, *masks):
                assert file.uri.rpartition("/")[0] == scan.folder


def test_a_scan_without_images_gives_way_to_one_with_images() -> None:
    (scan,) = below_root(
        *folder("raw/a_masks/scan", range(0), range(1, 3)), *folder("raw/images/scan", range(1, 3))
    ).scans
    assert scan.folder == f"{ROOT}/images/scan"
    assert [files.mask for files in scan.slices] == [None, None]


def test_an_unequal_copy_becomes_one_problem_of_its_folder() -> None:
    (scan, _) = discover(LISTING, PATTERN).scans
    copy = scan.slices[0].image_copies[0]
    own = Problem(scan.slices[1].image.uri, SCAN, Reason.TRUNCATED, "")
    (first, second) = scan.settled([Problem(copy.uri, SCAN, Reason.DUPLICATE_SLICE, ""), own])
    assert first == own
    assert (second.uri, second.reason, second.found) == (
        f"{ROOT}/nested/{SCAN}",
        Reason.DUPLICATE_SCAN,
        f"{SCAN}_1.tif differs",
    )


def test_an_empty_folder_is_a_problem_of_its_own() -> None:
    (problem,) = discover([*LISTING, FoundFile("file:///raw/lost/", 0, "")], PATTERN).problems
    assert (problem.reason, problem.scan_id) == (Reason.EMPTY_FOLDER, "lost")


@pytest.mark.parametrize(
    "path",
    [
        ".Trash-1000/files",
        ".snapshot/daily.0",
        "site/.snapshot/daily.0/site",
        "_temporary/0/task_1",
        "__MACOSX",
        "$RECYCLE.BIN",
        "site/System Volume Information",
        "@eaDir",
        "lost+found",
    ],
)
def test_nothing_below_a_hidden_folder_is_a_scan(path: str) -> None:
    hidden = folder(f"raw/{path}/scan_2", range(1, 4))
    result = below_root(*folder("raw/scan_1", range(1, 3)), *hidden)
    assert [scan.scan_id for scan in result.scans] == ["scan_1"]
    assert (result.ignored, result.problems) == ({"hidden": 3}, ())


def test_what_is_above_the_root_hides_nothing() -> None:
    files = [FoundFile(f"file:///home/.data/_raw/scan/scan_{n}.tif", 1, "") for n in (1, 2)]
    (scan,) = discover(files, PATTERN, roots=["file:///home/.data/_raw"]).scans
    assert len(scan.slices) == 2
    (scan,) = discover(files, PATTERN, roots=["file:///home/.data/_raw/scan"]).scans
    assert len(scan.slices) == 2
    assert not discover(files, PATTERN, roots=["file:///home"]).scans


def test_a_scan_may_begin_with_an_underline_and_a_job_folder_is_not_a_scan() -> None:
    scan = folder("raw/_scan", range(1, 3), range(1, 2))
    job = [found("raw/_temporary/part_1.tif"), found("raw/scan_1/_SUCCESS.tif")]
    result = below_root(*scan, *job, *folder("raw/scan_1", range(1, 2)), found("raw/scan_1/._scan_1_1.tif"))
    assert [task.scan_id for task in result.scans] == ["_scan", "scan_1"]
    assert [len(task.slices) for task in result.scans] == [2, 1]
    assert (result.ignored, result.scans[1].problems) == ({"hidden": 3}, ())


def test_what_slicemill_wrote_below_the_root_is_not_raw() -> None:
    masks = [found(f"raw/out/masks/scan_1/scan_1_{n}_pred.tif") for n in (1, 2)]
    scan = folder("raw/scan_1", range(1, 3))
    assert below_root(*scan, *masks).scans[0].problems
    for result in (
        below_root(*scan, *masks, own=[f"{ROOT}/out"]),
        below_root(*scan, *masks, found("raw/out/scores.json"), found("raw/out/manifest/scan_1--x.parquet")),
    ):
        assert result.scans == below_root(*scan).scans
        assert set(result.ignored) == {"own"}


def test_a_score_folder_that_scans_lie_in_loses_only_its_masks() -> None:
    masks = [found(f"raw/masks-1f/scan_1/scan_1_{n}_pred.tif") for n in (1, 2)]
    scan = folder("raw/scan_1", range(1, 3))
    result = below_root(*scan, *masks, own=[ROOT, "s3://bucket"])
    assert (result.scans, result.ignored) == (below_root(*scan).scans, {"own": 2})


def test_a_card_alone_does_not_make_a_folder_ours() -> None:
    assert below_root(*folder("raw/site/scan_1", range(1, 3)), found("raw/site/scores.json")).scans


def test_pipes_and_devices_are_named_and_not_read() -> None:
    (scan,) = below_root(*folder("raw/scan_1", range(1, 3)), found("raw/scan_1/scan_1_3.tif", -1)).scans
    assert [files.slice_index for files in scan.slices] == [1, 2]
    assert [(problem.reason, problem.found) for problem in scan.problems] == [
        (Reason.UNREADABLE, "a pipe, a device or a socket")
    ]


@pytest.mark.parametrize(
    ("name", "usable"),
    [("a" * 193, True), ("患" * 25, True), ("a" * 201, False), ("患" * 70, False), ("scan\udcff", False)],
)
def test_a_folder_whose_name_can_not_be_stored_is_set_aside_and_the_others_go_on(
    name: str, usable: bool
) -> None:
    files = [FoundFile(f"file:///raw/{path}/{path}_1.tif", 1, "") for path in (name, "scan_1")]
    result = discover(files, PATTERN, roots=["file:///raw"])
    assert [scan.scan_id for scan in result.scans] == sorted(["scan_1"] + [name] * usable)
    assert [problem.reason for problem in result.problems] == [Reason.UNUSABLE_NAME] * (not usable)
    for problem in result.problems:
        problem.uri.encode()


def test_a_file_name_that_is_not_utf8_is_set_aside() -> None:
    (scan,) = below_root(*folder("raw/scan_1", range(1, 2)), found("raw/scan_1/scan_1_\udcff.tif")).scans
    (problem,) = scan.problems
    assert (problem.reason, problem.uri.encode()) == (
        Reason.UNPARSABLE_NAME,
        b"s3://bucket/raw/scan_1/scan_1_\\xff.tif",
    )


def test_both_forms_of_an_accent_are_one_name() -> None:
    composed, decomposed = (unicodedata.normalize(form, "Zoé") for form in ("NFC", "NFD"))
    (scan,) = below_root(found(f"raw/{decomposed}/{composed}_1.tif"), found(f"raw/{decomposed}/x.tif")).scans
    assert (scan.scan_id, scan.patient_id, len(scan.slices), len(scan.problems)) == (composed, composed, 1, 1)


def test_other_formats_are_named() -> None:
    paths = [
        "scan_2.zip",
        "s3/s3_1.nii.gz",
        "s4/1.dcm",
        "s4/2.DCM",
        "s5/IM1",
        "s5/IM2",
        "s5/1.2.840.3",
        "LICENSE",
    ]
    files = [*folder("raw/scan_1", range(1, 2)), *(found(f"raw/{path}") for path in paths)]
    assert below_root(*files, found("raw/data.csv")).other_formats == {
        "dcm": {f"{ROOT}/s4": 2},
        "nii.gz": {f"{ROOT}/s3/s3_1.nii.gz": 1},
        "no suffix": {f"{ROOT}/s5": 3},
        "zip": {f"{ROOT}/scan_2.zip": 1},
    }


def test_folders_that_the_pattern_does_not_match_are_counted() -> None:
    files = [*folder(f"raw/{SCAN}", range(1, 2)), *folder("raw/P1_v1", range(1, 2))]
    assert [scan.scan_id for scan in below_root(*files).unmatched] == ["P1_v1"]
    assert below_root(*files, patients={"P1_v1": "P1"}).unmatched == ()


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


def test_the_fingerprint_of_a_folder_is_that_of_earlier_releases() -> None:
    (scan,) = below_root(*folder(f"raw/{SCAN}", range(1, 3), range(1, 2))).scans
    assert scan.fingerprint == "f691c23377acc94d4ac52d2b7da640db"


def test_moving_the_root_does_not_change_the_fingerprint() -> None:
    moved = [
        FoundFile(file.uri.replace("s3://bucket/raw", "file:///elsewhere"), file.size, file.version)
        for file in LISTING
    ]
    assert [scan.fingerprint for scan in discover(moved, PATTERN).scans] == [
        scan.fingerprint for scan in discover(LISTING, PATTERN).scans
    ]


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


class Counted(str):
    """A URI that counts how often one is compared with a beginning."""

    looks = 0

    def startswith(self, *beginnings: object) -> bool:
        Counted.looks += 1
        return super().startswith(*beginnings)  # type: ignore[arg-type]


def test_a_card_in_every_folder_takes_no_look_at_every_file_for_each() -> None:
    uris = [
        Counted(f"{ROOT}/S{number:04}/{name}") for number in range(300) for name in ("S_1.tif", "model.json")
    ]
    Surroundings([ROOT], [], uris)
    assert Counted.looks < 10 * len(uris)


def test_what_lies_anywhere_in_a_folder_of_slicemills_is_its_own() -> None:
    run, scores = f"{ROOT}/a/run", f"{ROOT}/b/scores"
    uris = [
        f"{run}/model.json",
        f"{run}/model.safetensors",
        f"{scores}/scores.json",
        f"{scores}/masks-2/S/S_1.tif",
    ]
    surroundings = Surroundings([ROOT], [], uris)
    for uri in (*uris, f"{run}/figures/deep/x.png", f"{run}/", f"{scores}/masks/"):
        assert surroundings.kind(uri) == "own"
    for uri in (f"{ROOT}/a/run2/S_1.tif", f"{ROOT}/a/", f"{ROOT}/b/S_1.tif"):
        assert surroundings.kind(uri) != "own"
