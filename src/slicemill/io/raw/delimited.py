"""Text files of people's own: lists and tables in any usual encoding, with any usual delimiter."""

from __future__ import annotations

import codecs
import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass

from slicemill.core.scans.patients import normal
from slicemill.errors import InputError
from slicemill.io import storage
from slicemill.io.storage.uri import display
from slicemill.types import Uri

_DELIMITERS = (",", ";", "|", "\t")
_UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


@dataclass(frozen=True)
class TextTable:
    """A table of texts: names of columns, and rows of as many cells, without blanks at their ends."""

    names: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def column(self, names: Sequence[str]) -> int | None:
        """Place of the first column that has one of these names, given as `plain_name` has them."""
        return next((place for place, name in enumerate(self.names) if plain_name(name) in names), None)


def plain_name(name: str) -> str:
    """A column's name in lower case without blanks, hyphens and underlines."""
    return "".join(letter for letter in name.lower() if letter.isalnum())


def read_text(uri: Uri) -> str:
    """A text file in UTF-8 or UTF-16, in Unicode's composed form; raise InputError for any other encoding."""
    data = storage.read_bytes(uri)
    # Windows writes UTF-16 with a mark at the beginning; without one, text without null bytes is not UTF-16.
    encoding = "utf-16" if data.startswith(_UTF_16) else "utf-8-sig"
    try:
        text = data.decode(encoding)
        if "\0" in text:
            raise ValueError("null characters")
    except ValueError as error:
        raise InputError(
            f"{display(uri)} is not a text file that can be read",
            expected="text in UTF-8 or UTF-16",
            found=str(error),
            advice="Save it as UTF-8.",
        ) from error
    return normal(text)


def read_table(uri: Uri, key_names: Sequence[str]) -> TextTable:
    """A table with a header, delimited by comma, semicolon, bar or tab; quotes as in CSV.

    The delimiter is the one by which the header has a column of `key_names`, of several the one by which most
    columns come out. Raises InputError if a row has more cells than the header.
    """
    text = read_text(uri)
    candidates = [_parsed(text, delimiter) for delimiter in _DELIMITERS]

    def rank(rows: list[list[str]]) -> tuple[bool, int]:
        header = rows[0] if rows else []
        return any(plain_name(name) in key_names for name in header), len(header)

    rows = max(candidates, key=rank)
    if not rows:
        raise InputError(f"{display(uri)} is empty", expected="a table with a header", found="no row")
    header, *body = rows
    for number, row in enumerate(body, start=2):
        if len(row) > len(header):
            raise InputError(
                f"row {number} of {display(uri)} is longer than the header",
                expected=f"{len(header)} cells",
                found=f"{len(row)} cells",
                advice="Quote cells that hold the delimiter.",
            )
    width = len(header)
    return TextTable(tuple(header), tuple((*row, *[""] * (width - len(row))) for row in body))


def _parsed(text: str, delimiter: str) -> list[list[str]]:
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True)
    return [[cell.strip() for cell in row] for row in rows if any(cell.strip() for cell in row)]
