"""Scores by the day on which they were made: does what comes in, or what comes out, drift?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date

import numpy as np

from slicemill.core.evaluation.rows import ScanScore
from slicemill.core.profiles.drift import COMPARED


@dataclass(frozen=True)
class Night:
    """Scans that were scored on one day, by UTC; medians and means are over scans, None where not known.

    `warned` and `urgent` count scans with a warning and scans to look at first. `flair` is the 90th
    percentile of FLAIR in grey values, `volume` the predicted one in voxels.
    """

    day: date
    scans: int
    warned: int
    urgent: int
    volume: float | None
    expected_dice: float | None
    dice: float | None
    flair: float | None


def nights(rows: Sequence[ScanScore]) -> tuple[Night, ...]:
    """A row a day, the earliest first; scans without a time are left out."""
    by_day: dict[date, list[ScanScore]] = {}
    for row in rows:
        if row.scored_at is not None:
            by_day.setdefault(row.scored_at.astimezone(UTC).date(), []).append(row)
    return tuple(_night(day, of_day) for day, of_day in sorted(by_day.items()))


def _night(day: date, rows: Sequence[ScanScore]) -> Night:
    return Night(
        day=day,
        scans=len(rows),
        warned=sum(bool(row.warnings) for row in rows),
        urgent=sum(bool(row.look_first) for row in rows),
        volume=_median([row.predicted_volume for row in rows]),
        expected_dice=_median([row.expected_dice for row in rows]),
        dice=_mean([row.dice for row in rows]),
        flair=_median([row.channel_p90[1] for row in rows if row.channel_p90 and len(row.channel_p90) > 1]),
    )


def _median(values: Sequence[float | None]) -> float | None:
    numbers = [value for value in values if value is not None]
    return float(np.median(numbers)) if numbers else None


def _mean(values: Sequence[float | None]) -> float | None:
    numbers = [value for value in values if value is not None]
    return float(np.mean(numbers)) if numbers else None


def channel_statistics(rows: Sequence[ScanScore]) -> list[list[tuple[float, ...]]]:
    """Of each scan that has them, its `COMPARED` statistics, a value a channel each."""
    statistics = [[getattr(row, f"channel_{name}") for name in COMPARED] for row in rows]
    return [values for values in statistics if all(values)]
