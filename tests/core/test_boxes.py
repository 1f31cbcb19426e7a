"""Boxes hold the head, and whole slices stand in where they can't be trusted."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slicemill.core.scans.boxes import MARGIN, STEP, Box, scan_boxes
from slicemill.core.scans.scan import Scan, Slice

WHOLE = Box(0, 256, 0, 256)


def scan(images: list[np.ndarray]) -> Scan:
    slices = []
    for position, image in enumerate(images):
        counts = np.stack([np.bincount(image[..., channel].ravel(), minlength=256) for channel in range(3)])
        slices.append(Slice(position, image, None, counts, "absent", ""))
    return Scan("s", "p", tuple(slices), ())


def head(top: int, bottom: int, left: int, right: int, size: int = 256, grey: int = 150) -> np.ndarray:
    """A slice of dim noise with a bright rectangle."""
    image = np.random.default_rng(0).integers(0, 6, (size, size, 3), dtype=np.uint8)
    image[top:bottom, left:right] = grey
    return image


def test_a_box_is_the_head_with_its_margin_on_the_grid() -> None:
    assert scan_boxes(scan([head(70, 150, 100, 200)]), 256) == [Box(32, 160, 64, 224)]
    # Source pixels are two of the network's.
    assert scan_boxes(scan([head(35, 75, 50, 100, 128)]), 256) == [Box(32, 160, 64, 224)]


@settings(deadline=None, max_examples=30)
@given(st.tuples(*[st.integers(0, 250)] * 4))
def test_no_pixel_of_the_head_lies_outside(ends: tuple[int, int, int, int]) -> None:
    (top, bottom), (left, right) = sorted(ends[:2]), sorted(ends[2:])
    bottom, right = bottom + 6, right + 6
    # Beside a large head, so that a small one is trusted.
    box = scan_boxes(scan([head(top, bottom, left, right), head(20, 236, 20, 236)]), 256)[0]
    assert box is not None
    assert box.top <= max(0, top - MARGIN)
    assert box.bottom >= min(256, bottom + MARGIN)
    assert box.left <= max(0, left - MARGIN)
    assert box.right >= min(256, right + MARGIN)
    assert all(side % STEP == 0 for side in (*box.shape, box.top, box.left))


def test_a_slice_of_air_has_no_box() -> None:
    noise = head(0, 0, 0, 0)
    noise[9, 9] = 255
    assert scan_boxes(scan([noise, head(20, 236, 20, 236)]), 256) == [None, Box(0, 256, 0, 256)]


@pytest.mark.parametrize(
    ("images", "size"),
    [
        # Nearly all of the scan would be air.
        ([head(100, 120, 100, 120), head(0, 0, 0, 0)], 256),
        # One value throughout, and black.
        ([np.full((256, 256, 3), 9, np.uint8)], 256),
        ([np.zeros((256, 256, 3), np.uint8)], 256),
    ],
)
def test_boxes_that_cannot_be_trusted_are_whole_slices(images: list[np.ndarray], size: int) -> None:
    assert scan_boxes(scan(images), size) == [WHOLE] * len(images)


def test_an_input_off_the_grid_is_not_cut() -> None:
    assert scan_boxes(scan([head(70, 150, 100, 200)]), 250) == [Box(0, 250, 0, 250)]
    assert scan_boxes(Scan("s", "p", (), ()), 256) == []
