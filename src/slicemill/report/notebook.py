"""Figures in a notebook: the report's own, on white, in any front end that shows HTML, and through Livy."""

from __future__ import annotations

import io
from html import escape

from matplotlib.figure import Figure
from matplotlib.image import imread

from slicemill.report.style import data_uri, png


class Shown:
    """Figures that a notebook displays when they are a cell's last value.

    Livy, behind EMR's PySpark kernel, passes on text only; there `%matplot NAME` shows a variable that holds
    them.
    """

    def __init__(self, figures: tuple[Figure, ...]) -> None:
        self._figures = figures

    def __repr__(self) -> str:
        return f"{len(self._figures)} figures; through Livy: %matplot shown"

    def _repr_html_(self) -> str:
        return "".join(_image(figure) for figure in self._figures)

    def gcf(self) -> Figure:
        """All figures below each other as one, which Livy's `%matplot` asks for by pyplot's name."""
        width = max((figure.get_figwidth() for figure in self._figures), default=1.0)
        heights = [figure.get_figheight() for figure in self._figures]
        whole = Figure(figsize=(width, sum(heights, 0.0) or 1.0), dpi=200)
        top = 1.0
        for figure, height in zip(self._figures, heights, strict=True):
            share = height / sum(heights)
            top -= share
            axes = whole.add_axes((0, top, figure.get_figwidth() / width, share))
            axes.imshow(imread(io.BytesIO(png(figure))), aspect="auto")
            axes.set_axis_off()
        return whole


def show(*figures: Figure | None) -> Shown:
    """Figures side by side where there is room, for a cell's last line; None is left out."""
    return Shown(tuple(figure for figure in figures if figure is not None))


def _image(figure: Figure) -> str:
    first = figure.axes[0]
    words = ", ".join(filter(None, (first.get_title("left"), first.get_xlabel(), first.get_ylabel())))
    width = round(figure.get_figwidth() * figure.dpi)
    return f'<img alt="{escape(words)}" width="{width}" src="{data_uri("image/png", png(figure))}">'
