"""How every figure of slicemill looks, in the report and in the notebooks.

Colours are Okabe and Ito's, told apart with any kind of colour vision (M. Okabe, K. Ito, Color universal
design, 2008). Figures are matplotlib objects of their own: pyplot and its global state are never touched.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import wraps
from typing import Any, Final, ParamSpec

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

Arguments = ParamSpec("Arguments")

BLUE: Final = "#0072b2"
ORANGE: Final = "#e69f00"
GREEN: Final = "#009e73"
VERMILLION: Final = "#d55e00"
SKY: Final = "#56b4e9"
PURPLE: Final = "#cc79a7"

#: Series without a meaning of their own take these in turn.
SERIES: Final = (BLUE, ORANGE, GREEN, PURPLE, VERMILLION, SKY)
#: Line styles beside the colours, for a print without any.
DASHES: Final = ("-", "--", "-.", ":", (0, (5, 1)), (0, (1, 1)))
#: Outlines of truth and prediction, everywhere.
TRUTH: Final = SKY
PREDICTION: Final = ORANGE
#: Map of counts, from none to many.
COUNT_MAP: Final = "cividis"

#: Ink, soft ink and grid of figures drawn for a light page, and what they become on a dark one.
INK: Final = "#1c2128"
SOFT: Final = "#57606a"
GRID: Final = "#d8dee5"
_ON_DARK: Final = {INK: "#e6e9ee", SOFT: "#a9b3bf", GRID: "#39414b", BLUE: "#4aa8e0"}

# matplotlib's stubs name every setting in a Literal, which a plain dict of settings can't match.
_SETTINGS: Final[Any] = {
    "axes.axisbelow": True,
    "axes.edgecolor": SOFT,
    "axes.grid": True,
    "axes.labelcolor": INK,
    "axes.labelsize": 10,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlecolor": INK,
    "axes.titlesize": 10.5,
    "axes.titlelocation": "left",
    "figure.constrained_layout.use": True,
    "figure.dpi": 100,
    "font.family": "DejaVu Sans",
    "grid.color": GRID,
    "grid.linewidth": 0.7,
    "legend.fontsize": 9,
    "legend.frameon": False,
    "legend.labelcolor": INK,
    "savefig.transparent": True,
    "svg.fonttype": "path",
    "svg.hashsalt": "slicemill",
    "text.color": INK,
    "xtick.color": SOFT,
    "xtick.labelcolor": INK,
    "xtick.labelsize": 9,
    "ytick.color": SOFT,
    "ytick.labelcolor": INK,
    "ytick.labelsize": 9,
}


@dataclass(frozen=True)
class Picture:
    """A figure as data URIs for a light and for a dark page; width and height in CSS pixels."""

    light: str
    dark: str
    width: int
    height: int


def drawn(make: Callable[Arguments, Figure]) -> Callable[Arguments, Figure]:
    """Run a function that draws a figure in the house style, which words take up when they are made."""

    @wraps(make)
    def styled(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Figure:
        with mpl.rc_context(_SETTINGS):
            return make(*args, **kwargs)

    return styled


def new_figure(width: float = 5.4, height: float = 3.5) -> tuple[Figure, Axes]:
    """A figure with one pair of axes; sizes in inches."""
    figure = Figure(figsize=(width, height))
    return figure, figure.subplots()


def picture(figure: Figure) -> Picture:
    """A figure as two SVG pictures of equal lines, one in the dark page's ink."""
    sink = io.StringIO()
    with mpl.rc_context(_SETTINGS):
        figure.savefig(
            sink, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None}
        )
    light = sink.getvalue()
    dark = light
    for ink, on_dark in _ON_DARK.items():
        dark = dark.replace(ink, on_dark)
    width, height = (round(inches * figure.dpi) for inches in figure.get_size_inches())
    return Picture(_svg_uri(light), _svg_uri(dark), width, height)


def png(figure: Figure) -> bytes:
    """A figure on white as a PNG file, twice as many pixels as CSS pixels."""
    sink = io.BytesIO()
    with mpl.rc_context({**_SETTINGS, "savefig.transparent": False}):
        figure.savefig(sink, format="png", facecolor="white", dpi=2 * figure.dpi)
    return sink.getvalue()


def _svg_uri(text: str) -> str:
    return data_uri("image/svg+xml", text.encode())


def data_uri(media_type: str, data: bytes) -> str:
    """Bytes as a data URI."""
    return f"data:{media_type};base64,{base64.b64encode(data).decode()}"


def colour(names: Sequence[str], name: str) -> str:
    """Colour of `name` among `names`."""
    return SERIES[names.index(name) % len(SERIES)]
