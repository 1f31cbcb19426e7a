"""Scores by night, as the report shows them."""

from __future__ import annotations

from datetime import UTC, datetime

from slicemill.core.evaluation.rows import ScanScore
from slicemill.core.results.nights import nights
from slicemill.pages.sections.blocks import TableBlock
from slicemill.pages.sections.nights import night_blocks


def scored(day: int, **numbers: object) -> ScanScore:
    return ScanScore(
        "P", f"S{day}{len(numbers)}", scored_at=datetime(2026, 1, day, 23, tzinfo=UTC), **numbers
    )


ROWS = [
    scored(2, predicted_volume=30, expected_dice=0.8, look_first=("expected Dice 0.80",)),
    scored(1, predicted_volume=10, warnings=("size",), channel_p90=(1.0, 60.0, 3.0)),
    scored(1, predicted_volume=20, channel_p90=(1.0, 80.0, 3.0), look_first=()),
]


def test_a_night_counts_its_own_scans() -> None:
    first, second = nights([*ROWS, ScanScore("P", "S")])
    assert (first.day.day, first.scans, first.warned, first.urgent) == (1, 2, 1, 0)
    assert (first.volume, first.flair, first.dice, first.expected_dice) == (15.0, 70.0, None, None)
    assert (second.scans, second.urgent, second.expected_dice, second.flair) == (1, 1, 0.8, None)


def test_the_table_is_there_from_the_second_night_on() -> None:
    (table,) = [block for block in night_blocks(ROWS, None) if isinstance(block, TableBlock)]
    assert [row[0].text for row in table.rows] == ["2026-01-01", "2026-01-02"]
    # Nobody knows a Dice, so it has no column.
    assert "Dice" not in [column.name for column in table.columns]
    assert night_blocks(ROWS[1:], None) == []
