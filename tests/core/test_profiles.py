from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slicemill.core.profiles.lake_profile import equal_images, summarise
from slicemill.core.profiles.scan_profile import (
    ScanProfile,
    TumourGeometry,
    heat_map,
    slice_gaps,
    tumour_geometry,
)
from slicemill.core.profiles.sequences import scan_missing_sequences
from slicemill.core.profiles.statistics import statistics
from slicemill.core.scans.channels import layout_for
from slicemill.core.scans.scan import Scan, Slice
from slicemill.io.raw.tiff import count_values


def one_slice(image: np.ndarray, mask: np.ndarray | None = None, number: int = 1) -> Slice:
    status = "absent" if mask is None else "present"
    return Slice(number, image, mask, count_values(image), status, "file:///x")


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**16), st.integers(1, 40), st.integers(1, 255))
def test_statistics_of_the_histogram_are_those_of_the_pixels(seed: int, side: int, high: int) -> None:
    pixels = np.random.default_rng(seed).integers(0, high, (side, side, 3), dtype=np.uint8, endpoint=True)
    found = statistics(count_values(pixels)).by_name
    for channel in range(3):
        plane = pixels[..., channel]
        assert found["min"][channel] == plane.min()
        assert found["max"][channel] == plane.max()
        assert np.isclose(found["mean"][channel], plane.mean())
        assert np.isclose(found["std"][channel], plane.std(), atol=1e-6)
        for name, percentile in (("p01", 1), ("p10", 10), ("p50", 50), ("p90", 90), ("p99", 99)):
            assert found[name][channel] == np.percentile(plane, percentile, method="inverted_cdf")


def test_tumour_geometry_by_hand() -> None:
    mask = np.zeros((8, 8), np.uint8)
    mask[2:4, 5:8] = 1
    assert tumour_geometry(mask) == TumourGeometry(6, (2, 5, 4, 8), 2.5, 6.0)
    assert tumour_geometry(np.zeros((8, 8), np.uint8)) == TumourGeometry(0, (), None, None)


def test_the_heat_map_keeps_every_tumour_pixel_in_its_place() -> None:
    mask = np.zeros((256, 128), np.uint8)
    mask[0, 0] = mask[255, 127] = mask[254, 127] = 1
    heat = heat_map([mask, mask])
    assert heat.sum() == 6
    assert (heat[0, 0], heat[63, 63]) == (2, 4)


def test_copied_and_missing_sequences() -> None:
    random = np.random.default_rng(0)
    whole = random.integers(0, 255, (8, 8, 3), dtype=np.uint8)
    no_post = whole.copy()
    no_post[..., 2] = no_post[..., 1]
    no_pre = whole.copy()
    no_pre[..., 0] = no_pre[..., 1]
    blank = np.zeros((8, 8, 3), np.uint8)
    for images, missing, copied in (
        ([whole, whole], [], 0),
        ([no_post, no_post, whole], ["post-contrast"], 2),
        ([no_pre, no_pre, no_pre], ["pre-contrast"], 3),
        ([blank, whole], [], 0),
        # A black slice has no say: two of three slices with content repeat FLAIR.
        ([blank, blank, blank, no_post, no_post, whole], ["post-contrast"], 2),
        ([blank, blank, blank, whole], [], 0),
    ):
        scan = Scan("s", "p", tuple(one_slice(image, None, n) for n, image in enumerate(images)), ())
        columns = ScanProfile(scan).scan_columns()
        assert (columns.missing_sequences, columns.copied_channel_slices) == (missing, copied)
        assert scan_missing_sequences(scan) == missing


def test_scan_columns_by_hand() -> None:
    image = np.full((4, 4, 3), 7, np.uint8)
    tumour = np.eye(4, dtype=np.uint8)
    healthy = np.zeros((4, 4), np.uint8)
    slices = (one_slice(image, tumour, 1), one_slice(image, healthy, 2), one_slice(image, None, 5))
    columns = ScanProfile(Scan("s", "p", slices, ())).scan_columns().row()
    assert (columns["slices"], columns["labelled_slices"], columns["tumour_slices"]) == (3, 2, 1)
    assert (columns["tumour_fraction"], columns["tumour_voxel_fraction"]) == (0.5, 4 / 32)
    assert columns["slice_gaps"] == [3, 4]
    assert columns["blank_slices"] == [1, 2, 5]
    assert columns["mean"] == [7.0, 7.0, 7.0]
    assert columns["std"] == [0.0, 0.0, 0.0]


def test_slice_rows_hold_a_row_a_channel() -> None:
    image = np.zeros((2, 2, 3), np.uint8)
    image[0, 0] = (1, 2, 3)
    rows = [one.row() for one in ScanProfile(Scan("s", "p", (one_slice(image),), ())).channel_profiles()]
    assert [(row["channel"], row["max"], row["zero_share"], row["blank"]) for row in rows] == [
        (0, 1.0, 0.75, False),
        (1, 2.0, 0.75, False),
        (2, 3.0, 0.75, False),
    ]
    assert all(row["histogram"].sum() == 4 and row["tumour_pixels"] is None for row in rows)


@pytest.mark.parametrize("value", [0, 40, 255])
@pytest.mark.parametrize(
    ("channels", "missing", "layout"),
    [
        ([0], ["pre-contrast"], "flair25d"),
        ([2], ["post-contrast"], "flair25d"),
        ([0, 2], ["pre-contrast", "post-contrast"], "flair25d"),
        # FLAIR of the neighbours can't stand in for FLAIR.
        ([1], ["FLAIR"], "rgb"),
    ],
)
def test_a_sequence_of_one_single_value_is_missing(value: int, channels: list[int], missing, layout) -> None:
    images = [np.random.default_rng(n).integers(0, 255, (8, 8, 3), dtype=np.uint8) for n in range(3)]
    for image in images:
        image[..., channels] = value
    scan = Scan("s", "p", tuple(one_slice(image, None, n) for n, image in enumerate(images)), ())
    assert scan_missing_sequences(scan) == missing
    assert ScanProfile(scan).scan_columns().missing_sequences == missing
    assert layout_for("auto", missing) == layout


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.sampled_from(["whole", "black", "no post", "no pre", "flat post"]), min_size=1, max_size=9)
)
def test_training_and_scoring_decide_by_the_same_sequences(kinds: list[str]) -> None:
    images = []
    for number, kind in enumerate(kinds):
        image = np.random.default_rng(number).integers(0, 255, (6, 6, 3), dtype=np.uint8)
        image *= np.uint8(kind != "black")
        for name, channel in (("no post", 2), ("no pre", 0)):
            image[..., channel] = image[..., 1] if kind == name else image[..., channel]
        image[..., 2] *= np.uint8(kind != "flat post")
        images.append(image)
    scan = Scan("s", "p", tuple(one_slice(image, None, n) for n, image in enumerate(images)), ())
    held = [kind for kind in kinds if kind != "black"]
    lacking = {
        "pre-contrast": held.count("no pre"),
        "post-contrast": held.count("no post") + held.count("flat post"),
    }
    expected = [name for name, count in lacking.items() if 2 * count > len(held)]
    # Ingest stores the first, and training goes by it; scoring goes by the second.
    assert ScanProfile(scan).scan_columns().missing_sequences == expected
    assert scan_missing_sequences(scan) == expected


def test_equal_images_are_named_only_across_patients() -> None:
    rows = [
        {"scan_id": "a1", "patient_id": "a", "image_hashes": [b"1", b"2"]},
        {"scan_id": "a2", "patient_id": "a", "image_hashes": [b"2"]},
        {"scan_id": "b1", "patient_id": "b", "image_hashes": [b"1", b"3"]},
    ]
    assert equal_images(rows) == [["a1", "b1"]]


def test_the_summary_adds_up() -> None:
    image = np.random.default_rng(0).integers(0, 255, (8, 8, 3), dtype=np.uint8)
    scans, totals = [], []
    for name in ("a", "b"):
        scan = Scan(name, name, (one_slice(image, np.eye(8, dtype=np.uint8)), one_slice(image, None, 3)), ())
        profile = ScanProfile(scan)
        scans.append(
            {"scan_id": name, "patient_id": name, "institution": "X", **profile.scan_columns().row()}
        )
        totals.append(profile.totals().row())
    summary = summarise(scans, totals)
    assert (summary["patients"], summary["slices"], summary["tumour_slices"], summary["healthy_slices"]) == (
        2,
        4,
        2,
        0,
    )
    assert sum(summary["channels"][0]["histogram"]) == 4 * 64
    assert np.sum(summary["heat_map"]) == 16
    assert summary["findings"]["slice_gaps"] == {"a": [2], "b": [2]}
    assert summary["findings"]["equal_images_across_patients"] == [["a", "b"]]


def test_an_empty_lake_has_a_summary() -> None:
    assert summarise([], [])["tumour_fraction"] == 0.0


def test_gaps_between_far_numbers_cost_no_memory() -> None:
    assert slice_gaps([1, 2, 999_999_999]) == list(range(3, 1003))
    assert slice_gaps([7, 3, 4]) == [5, 6]
    assert slice_gaps([5]) == []
