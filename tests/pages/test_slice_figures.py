from __future__ import annotations

import base64
import io
import re

import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from PIL import Image
from report_builder import FALSE_ALARM, MISSED, PERFECT

from slicemill.io.results import read_results
from slicemill.io.scores.results import PredictedScan
from slicemill.pages.figures.overlay import largest_slice
from slicemill.pages.figures.slices import MAX_SLICES, channel_views, outlined, slice_grid, transformed
from slicemill.pages.figures.style import PREDICTION, TRUTH, png
from slicemill.pages.notebook import show


@pytest.fixture(scope="module")
def scored(homes) -> dict[str, PredictedScan]:
    results = read_results(homes.lake, None, homes.scores)
    return {row.scan_id: results.predicted_scan(row) for row in results.scores.scans}


def panels(figure: Figure) -> list:
    return [axes for axes in figure.axes if axes.images]


def lines(axes) -> dict[str, np.ndarray]:
    drawn = [outline for outline in axes.collections if outline.get_segments()]
    return {to_hex(outline.get_color()[0]): np.concatenate(outline.get_segments()) for outline in drawn}


def test_outlines_lie_where_the_masks_are(scored):
    (alone,) = panels(outlined([(scored[FALSE_ALARM], 1)]))
    drawn = lines(alone)
    assert drawn.keys() == {PREDICTION}
    assert drawn[PREDICTION].min(axis=0).tolist() == [20, 10]
    assert drawn[PREDICTION].max(axis=0).tolist() == [22, 12]
    # Row 0 is on top, as in the report's pictures.
    assert alone.get_ylim() == (32, 0)
    assert alone.images[0].get_extent() == [0, 32, 32, 0]


def test_a_scan_is_shown_in_slice_order_with_both_outlines(scored):
    shown = panels(slice_grid(scored[PERFECT]))
    assert [axes.get_title(loc="left") for axes in shown] == ["slice 1", "slice 2", "slice 3", "slice 4"]
    assert [lines(axes).keys() for axes in shown] == [set(), {TRUTH, PREDICTION}, set(), {TRUTH, PREDICTION}]


def test_a_figure_holds_a_bounded_number_of_slices(scored):
    many = [(scored[MISSED], largest_slice(scored[MISSED]))] * (MAX_SLICES + 9)
    assert len(panels(outlined(many))) == MAX_SLICES


def test_a_slices_channels_are_named_and_drawn_apart(scored):
    scan = scored[PERFECT].scan
    shown = panels(channel_views(scan, 4))
    names = [axes.get_title(loc="left") for axes in shown]
    assert names == ["pre-contrast", "FLAIR", "post-contrast", "mask"]
    pixels = [np.asarray(axes.images[0].get_array(), float).ravel() for axes in shown]
    for channel in range(3):
        assert np.corrcoef(pixels[channel], scan.slices[3].image[..., channel].ravel())[0, 1] > 0.99
    assert np.array_equal(pixels[3], pixels[1])


def test_a_transformed_slice_has_its_masks_outline():
    mask = np.zeros((8, 8))
    mask[2:4, 5:7] = 0.75
    (alone,) = panels(transformed([np.arange(64.0).reshape(8, 8)], [mask], ["as it is"]))
    assert lines(alone)[TRUTH].min(axis=0).tolist() == [5, 2]


def test_a_notebook_shows_figures_as_pictures_that_say_what_they_are(scored):
    figure = channel_views(scored[PERFECT].scan, 4)
    figure.axes[0].set_title('<"hostile">', loc="left")
    shown = show(figure, None, figure)
    html = shown._repr_html_()
    assert repr(shown).startswith("2 pictures")
    assert (
        re.findall(r'<img alt="([^"]*)" width="\d+" src="data:image/png;base64,', html)
        == ["&lt;&quot;hostile&quot;&gt;"] * 2
    )


def test_livy_gets_all_figures_as_one_picture(scored):
    figure = channel_views(scored[PERFECT].scan, 4)
    sink = io.BytesIO()
    # What `%matplot shown` does in Livy's Python.
    show(figure, figure).gcf().savefig(sink, format="png")
    width, height = Image.open(sink).size
    assert width == pytest.approx(figure.get_figwidth() * 200, abs=2)
    assert height == pytest.approx(2 * figure.get_figheight() * 200, abs=2)
    drawn = np.asarray(Image.open(sink).convert("L"), float)
    assert np.abs(drawn[: height // 2] - drawn[height // 2 :]).mean() < 2


def test_stored_pictures_are_shown_too(scored):
    data = png(channel_views(scored[PERFECT].scan, 4))
    assert base64.b64encode(data).decode() in show(data)._repr_html_()
    with pytest.raises(ValueError, match="expected figures or PNG files"):
        show(b"no picture")
