"""Pictures in a notebook: the report's figures, on white, where HTML is shown, and through Livy."""

from __future__ import annotations

import io
from dataclasses import dataclass
from html import escape

from matplotlib.figure import Figure
from matplotlib.image import imread

from slicemill.io.picture import png_size
from slicemill.pages.figures.style import data_uri, png

_DPI = 200


@dataclass(frozen=True)
class _Picture:
    """A PNG file, its words, its width and height in CSS pixels."""

    data: bytes
    words: str
    width: int
    height: int


class Shown:
    """Pictures that a notebook displays when they are a cell's last value.

    Livy, behind EMR's PySpark kernel, passes on text only; there `%matplot NAME` shows a variable that holds
    them.
    """

    def __init__(self, pictures: tuple[_Picture, ...]) -> None:
        self._pictures = pictures

    def __repr__(self) -> str:
        return f"{len(self._pictures)} pictures; through Livy: %matplot shown"

    def _repr_html_(self) -> str:
        return "".join(
            f'<img alt="{escape(item.words)}" width="{item.width}" src="{data_uri("image/png", item.data)}">'
            for item in self._pictures
        )

    def gcf(self) -> Figure:
        """All pictures below each other as one figure, by the name that Livy's `%matplot` asks pyplot for."""
        width = max((item.width for item in self._pictures), default=1)
        height = sum(item.height for item in self._pictures) or 1
        combined = Figure(figsize=(width / 100, height / 100), dpi=_DPI)
        top = 1.0
        for item in self._pictures:
            top -= item.height / height
            axes = combined.add_axes((0, top, item.width / width, item.height / height))
            axes.imshow(imread(io.BytesIO(item.data)), aspect="auto")
            axes.set_axis_off()
        return combined


def show(*pictures: Figure | bytes | None) -> Shown:
    """Figures and PNG files side by side where there is room, for a cell's last line; None is left out."""
    return Shown(tuple(_picture(item) for item in pictures if item is not None))


def _picture(source: Figure | bytes) -> _Picture:
    if isinstance(source, bytes):
        size = png_size(source)
        if size is None:
            raise ValueError(f"show: expected figures or PNG files, found {len(source)} other bytes")
        return _Picture(source, "picture", *size)
    first = source.axes[0]
    words = ", ".join(filter(None, (first.get_title("left"), first.get_xlabel(), first.get_ylabel())))
    width, height = (round(inches * source.dpi) for inches in source.get_size_inches())
    return _Picture(png(source), words, width, height)
