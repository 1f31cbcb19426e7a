"""Drift over nights: a table of the days on which scans were scored, against each other and the training."""

from __future__ import annotations

from collections.abc import Sequence

from slicemill.core.evaluation.rows import ScanScore
from slicemill.core.profiles.channel_order import channel_order_doubt
from slicemill.core.results.nights import Night, channel_statistics, nights
from slicemill.io.run.card import Card
from slicemill.pages.sections.blocks import (
    Block,
    Cell,
    Heading,
    Note,
    TableBlock,
    TableColumn,
    number,
    without_empty_columns,
    words,
)

#: Days of the table, the latest.
MAX_NIGHTS = 60

_COLUMNS = (
    TableColumn("Day"),
    TableColumn("Scans", numeric=True),
    TableColumn("With a warning", numeric=True),
    TableColumn("To look at first", numeric=True),
    TableColumn("Predicted volume", "median, voxels", numeric=True),
    TableColumn("FLAIR p90", "median, grey value", numeric=True),
    TableColumn("Expected Dice", "median", numeric=True),
    TableColumn("Dice", "mean", numeric=True),
)


def night_blocks(rows: Sequence[ScanScore], card: Card | None) -> list[Block]:
    """The table of days where there are two or more, and the doubt about the channels' order, if any."""
    profile = card.training_profile if card else {}
    doubt = channel_order_doubt(channel_statistics(rows), profile)
    blocks: list[Block] = [Note(f"{doubt[0].upper()}{doubt[1:]}.", "warning")] if doubt else []
    days = nights(rows)
    if len(days) < 2:
        return blocks
    usual = profile.get("channels", ())
    caption = "Scans by the day on which they were scored, UTC."
    if len(usual) > 1:
        low, high = usual[1]["p90"]
        caption += f" In training, nine of ten scans had a FLAIR p90 of {low:.0f} to {high:.0f}."
    table = without_empty_columns(_COLUMNS, [_cells(night) for night in days[-MAX_NIGHTS:]])
    note = f"Shown are the latest {MAX_NIGHTS} of {len(days):,} days." if len(days) > MAX_NIGHTS else ""
    return [*blocks, Heading("By night"), TableBlock("nights", caption, *table, more=note)]


def _cells(night: Night) -> tuple[Cell, ...]:
    return (
        words(night.day.isoformat()),
        number(night.scans),
        number(night.warned),
        number(night.urgent),
        number(night.volume),
        number(night.flair, 1),
        number(night.expected_dice, 3),
        number(night.dice, 3),
    )
