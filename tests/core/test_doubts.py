"""Masks and grey values that are sound by their form and doubtful by what they show."""

from __future__ import annotations

import numpy as np
import pytest

from slicemill.core.profiles.lake_profile import summarise
from slicemill.core.profiles.scan_profile import ScanProfile
from slicemill.core.scans.scan import Scan, Slice
from slicemill.io.raw.tiff import count_values

SIDE = 32


def head(number: int = 0) -> np.ndarray:
    """A bright disc on a black ground with a little noise, axes (H, W, 3)."""
    rows, columns = np.mgrid[:SIDE, :SIDE] - SIDE / 2
    disc = (rows**2 + columns**2 < (0.4 * SIDE) ** 2)[..., None]
    noise = np.random.default_rng(number).integers(0, 90, (SIDE, SIDE, 3))
    return (disc * (80 + noise) + noise // 20).astype(np.uint8)


def box(top: int, left: int, bottom: int, right: int) -> np.ndarray:
    mask = np.zeros((SIDE, SIDE), np.uint8)
    mask[top:bottom, left:right] = 1
    return mask


def profile(masks: list[np.ndarray], images: list[np.ndarray] | None = None) -> ScanProfile:
    images = images or [head(number) for number in range(len(masks))]
    slices = [
        Slice(number + 1, image, mask, count_values(image), "present", "")
        for number, (image, mask) in enumerate(zip(images, masks, strict=True))
    ]
    return ScanProfile(Scan("s", "p", tuple(slices), ()))


TUMOUR = box(12, 12, 18, 18)


@pytest.mark.parametrize(
    ("mask", "words"),
    [
        (np.ones((SIDE, SIDE), np.uint8), "cover every pixel"),
        (1 - TUMOUR, "look inverted"),
        (box(6, 6, 26, 26), "cover more than a quarter"),
        (box(0, 0, 8, 8), "lie mostly on the background"),
    ],
)
def test_a_mask_that_covers_implausibly_much_is_a_finding(mask: np.ndarray, words: str) -> None:
    made = profile([TUMOUR, mask, TUMOUR])
    columns = made.scan_columns()
    assert columns.implausible_masks == [2]
    (doubt,) = columns.doubts
    assert words in doubt
    assert doubt.endswith("slice 2")
    row = {"scan_id": "s", "patient_id": "p", "institution": None, **columns.row()}
    findings = summarise([row], [made.totals().row()])["findings"]
    assert (findings["implausible_masks"], findings["doubts"]) == ({"s": [2]}, {"s": [doubt]})


def test_a_sound_scan_has_no_doubts() -> None:
    columns = profile([TUMOUR, np.zeros((SIDE, SIDE), np.uint8)]).scan_columns()
    assert (columns.implausible_masks, columns.doubts) == ([], [])


def test_doubtful_slices_are_counted_where_they_are_too_many_to_name() -> None:
    columns = profile([np.ones((SIDE, SIDE), np.uint8)] * 12).scan_columns()
    assert columns.doubts == [
        "masks cover every pixel: slices 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, ... (12 in all)"
    ]


def test_saturation_is_a_finding() -> None:
    image = head()
    image[:, : SIDE // 4, 1] = 255
    assert [doubt[:18] for doubt in profile([TUMOUR], [image]).scan_columns().doubts] == [
        "FLAIR is saturated"
    ]


@pytest.mark.parametrize("offset", [0, 120, 240])
def test_lost_contrast_is_a_finding(offset: int) -> None:
    image = head()
    image[..., 0] = image[..., 0] // 24 + offset
    doubts = profile([TUMOUR], [image]).scan_columns().doubts
    assert [doubt[:34] for doubt in doubts] == ["pre-contrast has lost its contrast"]


def test_black_slices_and_missing_sequences_are_no_lost_contrast() -> None:
    image, black = head(), np.zeros((SIDE, SIDE, 3), np.uint8)
    image[..., 2] = 0
    empty = np.zeros((SIDE, SIDE), np.uint8)
    columns = profile([empty] * 9, [image, *[black] * 8]).scan_columns()
    assert (columns.doubts, columns.missing_sequences) == ([], ["post-contrast"])


def test_a_lake_of_an_earlier_release_has_no_doubts() -> None:
    made = profile([TUMOUR])
    row = {"scan_id": "s", "patient_id": "p", "institution": None, **made.scan_columns().row()}
    del row["implausible_masks"]
    row["doubts"] = None
    findings = summarise([row], [made.totals().row()])["findings"]
    assert (findings["implausible_masks"], findings["doubts"]) == ({}, {})
