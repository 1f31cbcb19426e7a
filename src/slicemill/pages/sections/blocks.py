"""What a page is made of: sections of notes, tiles, charts, tables and overlays, which the template draws."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal

from slicemill.pages.figures.style import Picture


@dataclass(frozen=True)
class Note:
    """A paragraph; `missing` says that something could not be shown, and why."""

    kind: ClassVar[str] = "note"
    text: str
    tone: Literal["plain", "missing", "warning"] = "plain"


@dataclass(frozen=True)
class Heading:
    """A heading below the section's own."""

    kind: ClassVar[str] = "heading"
    text: str


@dataclass(frozen=True)
class BriefLine:
    """What one kind of reader wants to know, in a few sentences."""

    reader: str
    text: str


@dataclass(frozen=True)
class Brief:
    """The first lines of a page, a line for each kind of reader."""

    kind: ClassVar[str] = "brief"
    lines: tuple[BriefLine, ...]


@dataclass(frozen=True)
class Tile:
    """One number: its name, the number in words, and what it is worth."""

    label: str
    value: str
    detail: str = ""


@dataclass(frozen=True)
class Tiles:
    """Numbers side by side."""

    kind: ClassVar[str] = "tiles"
    items: tuple[Tile, ...]


@dataclass(frozen=True)
class Chart:
    """A figure with its caption; `alt` tells what it shows to who can't see it."""

    picture: Picture
    caption: str
    alt: str


@dataclass(frozen=True)
class Charts:
    """Figures side by side where there is room."""

    kind: ClassVar[str] = "charts"
    items: tuple[Chart, ...]


@dataclass(frozen=True)
class Cell:
    """One cell of a table: what is shown, what it is sorted by, and the anchor that it leads to."""

    text: str
    order: float | str
    anchor: str | None = None


@dataclass(frozen=True)
class TableColumn:
    """A table's column; numbers are set flush right. A `breakable` one holds paths, broken at any letter."""

    name: str
    unit: str = ""
    numeric: bool = False
    breakable: bool = False


@dataclass(frozen=True)
class TableBlock:
    """A table; with `search`, a field above it filters its rows.

    `more` says what was left out, and `file` where that is.
    """

    kind: ClassVar[str] = "table"
    name: str
    caption: str
    columns: tuple[TableColumn, ...]
    rows: tuple[tuple[Cell, ...], ...]
    search: bool = False
    more: str = ""
    file: str | None = None


@dataclass(frozen=True)
class Overlay:
    """A slice with outlines: grey picture, size in pixels, SVG paths in half pixels, words below it.

    `layer` is a picture with transparency between the slice and the outlines.
    """

    image: str
    width: int
    height: int
    truth: str
    predicted: str
    label: str
    detail: str
    anchor: str | None = None
    layer: str | None = None


@dataclass(frozen=True)
class Scale:
    """What the colours of a layer mean: words, and colours from the lowest shown value to the highest."""

    name: str
    low: str
    high: str
    colours: tuple[str, ...]


@dataclass(frozen=True)
class Overlays:
    """Slices with outlines, and the legend that they share."""

    kind: ClassVar[str] = "overlays"
    items: tuple[Overlay, ...]
    scales: tuple[Scale, ...] = ()


@dataclass(frozen=True)
class Frame:
    """One slice of a scan page."""

    slice_index: int
    truth: str
    predicted: str
    detail: str


@dataclass(frozen=True)
class Channel:
    """One sequence of a scan page: all its slices side by side in one picture, row by row."""

    name: str
    sheet: str


@dataclass(frozen=True)
class Layer:
    """Colours with transparency over a scan page: all slices as in a channel's picture, and their meaning."""

    sheet: str
    scale: Scale


@dataclass(frozen=True)
class Viewer:
    """A scan page: every slice of a scan, to be leafed through. Sizes in pixels; `start` is a position."""

    kind: ClassVar[str] = "viewer"
    anchor: str
    title: str
    detail: str
    width: int
    height: int
    columns: int
    rows: int
    start: int
    start_channel: int
    channels: tuple[Channel, ...]
    frames: tuple[Frame, ...]
    layers: tuple[Layer, ...] = ()


#: In place of a number that is not there.
NONE = "\N{EN DASH}"

Block = Note | Heading | Brief | Tiles | Charts | TableBlock | Overlays | Viewer


@dataclass(frozen=True)
class Section:
    """A part of the page with a heading and an anchor."""

    anchor: str
    title: str
    blocks: tuple[Block, ...] = field(default=())


def count_figures(sections: Sequence[Section]) -> int:
    """Charts, overlays and scan pages of all sections."""
    return sum(_figures(block) for section in sections for block in section.blocks)


def _figures(block: Block) -> int:
    if isinstance(block, Charts | Overlays):
        return len(block.items)
    return int(isinstance(block, Viewer))


def without_empty_columns(
    columns: Sequence[TableColumn], rows: Sequence[Sequence[Cell]]
) -> tuple[tuple[TableColumn, ...], tuple[tuple[Cell, ...], ...]]:
    """Columns that say something in at least one row, and the rows cut to them."""
    texts = [{row[place].text for row in rows} for place in range(len(columns))]
    places = [place for place, in_column in enumerate(texts) if not in_column <= {"", NONE}]
    cut = tuple(tuple(row[place] for place in places) for row in rows)
    return tuple(columns[place] for place in places), cut


def number(value: float | int | None, digits: int = 0, unit: str = "") -> Cell:
    """A cell that holds a number; none is a dash, sorted below all numbers."""
    if value is None:
        return Cell(NONE, -1e300)
    return Cell(f"{value:,.{digits}f}{unit}", float(value))


def words(text: str, anchor: str | None = None) -> Cell:
    """A cell that holds words."""
    return Cell(text, text.lower(), anchor)


def text_rows(rows: Sequence[Sequence[str]]) -> tuple[tuple[Cell, ...], ...]:
    """Rows of a table that nobody sorts."""
    return tuple(tuple(Cell(text, text) for text in row) for row in rows)
