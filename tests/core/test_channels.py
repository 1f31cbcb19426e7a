from __future__ import annotations

import numpy as np
import pytest

from slicemill.core.scans.channels import input_normalisation, input_slices, layout_for
from slicemill.core.scans.normalise import from_histogram

IMAGES = np.arange(4 * 2 * 5 * 3, dtype=np.uint8).reshape(4, 2, 5, 3)


@pytest.mark.parametrize(
    ("mode", "missing", "layout"),
    [
        ("auto", [], "rgb"),
        ("auto", ["post-contrast"], "flair25d"),
        ("rgb", ["post-contrast"], "rgb"),
        ("flair25d", [], "flair25d"),
    ],
)
def test_a_scan_gets_its_layout_by_what_it_lacks(mode, missing, layout) -> None:
    assert layout_for(mode, missing) == layout


def test_neighbouring_flair_slices_become_channels_and_the_ends_repeat() -> None:
    found = np.stack(input_slices(IMAGES, "flair25d"))

    flair = IMAGES[..., 1]
    assert found.shape == IMAGES.shape
    assert found.dtype == np.uint8
    for at, (before, after) in enumerate([(0, 1), (0, 2), (1, 3), (2, 3)]):
        np.testing.assert_array_equal(found[at, ..., 0], flair[before])
        np.testing.assert_array_equal(found[at, ..., 1], flair[at])
        np.testing.assert_array_equal(found[at, ..., 2], flair[after])


def test_a_list_of_slices_gives_the_same_as_one_array() -> None:
    np.testing.assert_array_equal(input_slices(list(IMAGES), "flair25d"), input_slices(IMAGES, "flair25d"))


def test_a_single_slice_is_its_own_neighbour() -> None:
    (found,) = input_slices(IMAGES[:1], "flair25d")

    np.testing.assert_array_equal(found, np.repeat(IMAGES[0, ..., 1:2], 3, axis=-1))


def test_a_slices_own_channels_are_left_alone() -> None:
    assert input_slices(IMAGES, "rgb") is IMAGES


def test_the_normalisation_follows_the_channels() -> None:
    counts = [np.bincount(IMAGES[..., channel].ravel(), minlength=256) for channel in range(3)]
    stored = from_histogram(np.stack(counts))

    assert input_normalisation(stored, "rgb") is stored
    found = input_normalisation(stored, "flair25d")
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, np.stack([stored[1]] * 3))
