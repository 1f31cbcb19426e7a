from __future__ import annotations

import base64
import io
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image
from report_builder import FALSE_ALARM, PERFECT

from slicemill.io.results import read_results
from slicemill.io.scores.results import PredictedScan
from slicemill.pages.figures.overlay import (
    display,
    largest_slice,
    outline,
    overlay,
    viewer,
)

MASKS = arrays.arrays(
    np.uint8, arrays.array_shapes(min_dims=2, max_dims=2, max_side=12), elements=st.integers(0, 1)
)


def points(path: str) -> np.ndarray:
    """Corners of an outline's path, in half pixels, axes (N, 2) as x and y."""
    found = []
    for part in filter(None, path.split("z")):
        start, _, moves = part.removeprefix("M").partition("l")
        steps = [int(number) for number in f"{start} {moves}".split()]
        found.append(np.cumsum(np.reshape(steps, (-1, 2)), axis=0))
    return np.concatenate(found)


def pixels(uri: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))).convert("L"))


def scored(homes, scan_id: str) -> PredictedScan:
    results = read_results(homes.lake, None, homes.scores)
    (row,) = [row for row in results.scores.scans if row.scan_id == scan_id]
    return results.predicted_scan(row)


def test_one_pixel_is_a_diamond_around_its_centre():
    mask = np.zeros((5, 6), np.uint8)
    mask[2, 3] = 1
    assert {tuple(point) for point in points(outline(mask))} == {(6, 5), (7, 4), (8, 5), (7, 6)}


def test_no_mask_and_an_empty_one_have_no_outline():
    assert outline(None) == outline(np.zeros((4, 4), np.uint8)) == ""


@settings(deadline=None)
@given(MASKS.filter(lambda mask: bool(mask.any())))
def test_an_outline_touches_the_borders_of_its_mask(mask):
    corners = points(outline(mask))
    rows, columns = np.nonzero(mask)
    assert corners[:, 0].min() == 2 * columns.min()
    assert corners[:, 0].max() == 2 * (columns.max() + 1)
    assert corners[:, 1].min() == 2 * rows.min()
    assert corners[:, 1].max() == 2 * (rows.max() + 1)


def test_a_wide_slice_is_averaged_down():
    plane = np.zeros((600, 512), np.uint8)
    plane[:, :256] = 100
    shown = display(plane, 255.0)
    assert shown.shape == (200, 170)
    assert set(np.unique(shown[:, :85])) == {100}
    assert shown[:, 86:].max() == 0


@pytest.mark.parametrize(("white", "expected"), [(50.0, 255), (255.0, 100), (100.0, 255)])
def test_values_above_white_are_white(white, expected):
    assert display(np.full((8, 8), 100, np.uint8), white).max() == expected


def test_stored_predictions_come_back_as_they_were_made(homes):
    scan = scored(homes, FALSE_ALARM)
    assert [scan.predicted[index].area for index in (1, 2, 3, 4)] == [4, 0, 0, 16]
    assert np.argwhere(scan.predicted[1].mask).tolist() == [[10, 20], [10, 21], [11, 20], [11, 21]]
    assert largest_slice(scan) == 4


def test_an_overlay_lies_where_the_pixels_are(homes):
    made = overlay(scored(homes, FALSE_ALARM), 1, "scan", "detail")
    assert made.truth == ""
    assert points(made.predicted).min(axis=0).tolist() == [40, 20]
    assert points(made.predicted).max(axis=0).tolist() == [44, 24]
    assert (made.width, made.height) == pixels(made.image).shape[::-1] == (32, 32)


def test_a_scan_page_shows_every_slice_the_right_way_up(homes):
    scan = scored(homes, PERFECT)
    made = viewer(scan, "scan-1", "")
    assert [frame.slice_index for frame in made.frames] == [1, 2, 3, 4]
    assert made.frames[made.start].slice_index == 4
    assert made.frames[3].truth == made.frames[3].predicted != ""
    assert [channel.name for channel in made.channels] == ["pre-contrast", "FLAIR", "post-contrast"]
    for channel, shown in enumerate(made.channels):
        sheet = pixels(shown.sheet).astype(float)
        assert sheet.shape == (32, 320)
        for place, one in enumerate(scan.scan.slices):
            tile = sheet[:, 32 * place : 32 * (place + 1)]
            assert np.corrcoef(tile.ravel(), one.image[..., channel].ravel())[0, 1] > 0.8


def test_outlines_are_paths_and_nothing_else(homes):
    made = overlay(scored(homes, PERFECT), 4, "scan", "detail")
    assert re.fullmatch(r"M[-\d ]+l[-\d ]+z", made.truth)
