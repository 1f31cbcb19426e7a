"""Maps over FLAIR: their colours are the stored probabilities', and lie on the slices that they are of."""

from __future__ import annotations

import base64
import io

import numpy as np
import pytest
from PIL import Image
from report_builder import FALSE_ALARM, PERFECT, levels

from slicemill.io.results import read_results
from slicemill.io.scores.results import PredictedScan
from slicemill.pages.figures.heat import PROBABILITY, QUANTITIES, UNCERTAINTY
from slicemill.pages.figures.overlay import overlay, viewer, weight


@pytest.fixture(scope="module")
def scored(homes) -> dict[str, PredictedScan]:
    results = read_results(homes.lake, None, homes.scores)
    return {row.scan_id: results.predicted_scan(row) for row in results.scores.scans}


def colours(uri: str) -> np.ndarray:
    """A picture's pixels, axes (H, W, 4)."""
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))).convert("RGBA"))


def test_stored_probabilities_come_back_as_they_were(scored):
    scan = scored[FALSE_ALARM]
    masks = np.stack([scan.predicted[number].mask for number in (1, 2, 3, 4)])
    np.testing.assert_array_equal(np.stack([scan.levels[number] for number in (1, 2, 3, 4)]), levels(masks))


def test_only_what_is_above_a_twentieth_has_a_colour():
    for quantity in QUANTITIES:
        picture = quantity.picture(np.array([0, 12, 13, 255], np.uint8))
        assert (picture[:, 3] > 0).tolist() == [False, False, True, True]
        assert len(quantity.scale.colours) == 19
        shown = "#" + bytes(picture[3, :3]).hex()
        assert shown == quantity.scale.colours[-1]


def test_uncertainty_is_highest_at_one_half_and_none_where_the_network_is_sure():
    values = UNCERTAINTY.values(np.array([0, 64, 128, 191, 255], np.uint8))
    assert values[[0, 4]].tolist() == [0, 0]
    assert values[2] == 255
    assert abs(int(values[1]) - int(values[3])) <= 1 < values[1] < 255


def test_a_scan_pages_maps_lie_on_their_slices(scored):
    scan = scored[PERFECT]
    page = viewer(scan, "scan-1", "")
    assert [layer.scale.name for layer in page.layers] == [quantity.name for quantity in QUANTITIES]
    for quantity, layer in zip(QUANTITIES, page.layers, strict=True):
        sheet = colours(layer.sheet)
        assert sheet.shape == (32, 320, 4)
        for place, number in enumerate((1, 2, 3, 4)):
            expected = quantity.picture(quantity.values(scan.levels[number]))
            shown = sheet[:, 32 * place : 32 * (place + 1)]
            np.testing.assert_array_equal(shown[..., 3], expected[..., 3])
            np.testing.assert_array_equal(shown[expected[..., 3] > 0], expected[expected[..., 3] > 0])


def test_a_map_over_one_slice_weighs_on_the_page(scored):
    plain, mapped = (overlay(scored[PERFECT], 4, "scan", "", quantity) for quantity in (None, PROBABILITY))
    assert plain.layer is None
    assert colours(mapped.layer)[0, 0, 3] > 0 == colours(mapped.layer)[20, 20, 3]
    assert weight(mapped) == weight(plain) + len(mapped.layer)


def test_without_probabilities_there_is_no_map(scored):
    scan = PredictedScan(scored[PERFECT].scan, scored[PERFECT].predicted)
    assert viewer(scan, "scan-1", "").layers == ()
