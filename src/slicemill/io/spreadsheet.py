"""Text that a spreadsheet shows as it is: a stranger's folder name is never run as a formula."""

from __future__ import annotations

#: With one of these a cell is taken for a formula.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def text_cell(text: str) -> str:
    """`text` as a cell of CSV: behind an apostrophe if a spreadsheet would take it for a formula."""
    return f"'{text}" if text.startswith(_FORMULA) else text
