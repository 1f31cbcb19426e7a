"""Figures in a notebook: the report's own, on white, in any front end that shows HTML."""

from __future__ import annotations

from html import escape

from matplotlib.figure import Figure

from slicemill.report.style import data_uri, png


class Shown:
    """Figures that a notebook displays when they are a cell's last value."""

    def __init__(self, figures: tuple[Figure, ...]) -> None:
        self._figures = figures

    def __repr__(self) -> str:
        return f"{len(self._figures)} figures"

    def _repr_html_(self) -> str:
        return "".join(_image(figure) for figure in self._figures)


def show(*figures: Figure | None) -> Shown:
    """Figures side by side where there is room, for a cell's last line; None is left out."""
    return Shown(tuple(figure for figure in figures if figure is not None))


def _image(figure: Figure) -> str:
    first = figure.axes[0]
    words = ", ".join(filter(None, (first.get_title("left"), first.get_xlabel(), first.get_ylabel())))
    width = round(figure.get_figwidth() * figure.dpi)
    return f'<img alt="{escape(words)}" width="{width}" src="{data_uri("image/png", png(figure))}">'
