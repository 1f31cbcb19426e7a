"""Which scans a person should look at first, and whether that rule finds the bad masks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from slicemill.core.evaluation.intervals import Interval, mean_interval
from slicemill.core.evaluation.rows import ScanScore

#: A scan is to be looked at first if the model itself expects a Dice below this.
EXPECTED_BELOW = 0.8

#: A mask of a lower Dice is a bad one, when the rule's worth is counted.
BAD_BELOW = 0.7


def look_first(expected_dice: float | None, predicted_volume: int | None) -> tuple[str, ...]:
    """Why a scan is to be looked at first, in words; nothing for a scan that can wait.

    Both numbers are None of a classifier, whose scans are all alike to this rule.

    >>> look_first(expected_dice=0.55, predicted_volume=900)
    ('the model expects a Dice of 0.55',)
    """
    if predicted_volume == 0:
        return ("no tumour was predicted",)
    if expected_dice is not None and expected_dice < EXPECTED_BELOW:
        return (f"the model expects a Dice of {expected_dice:.2f}",)
    return ()


@dataclass(frozen=True)
class TriageWorth:
    """Dice of the scans to look at first against that of the rest.

    Intervals resample scans. `bad` counts the scans with a Dice below `BAD_BELOW`, `bad_flagged` those of
    them that the rule names.
    """

    flagged: int
    rest: int
    flagged_dice: Interval | None
    rest_dice: Interval | None
    bad: int
    bad_flagged: int


def triage_worth(rows: Sequence[ScanScore]) -> TriageWorth | None:
    """What the rule is worth on scans with truth; None if none has an expected Dice beside a true one."""
    judged = [(row, row.dice) for row in rows if row.dice is not None and row.expected_dice is not None]
    if not judged:
        return None
    flagged = [dice for row, dice in judged if look_first(row.expected_dice, row.predicted_volume)]
    rest = [dice for row, dice in judged if not look_first(row.expected_dice, row.predicted_volume)]
    return TriageWorth(
        flagged=len(flagged),
        rest=len(rest),
        flagged_dice=mean_interval(flagged) if flagged else None,
        rest_dice=mean_interval(rest) if rest else None,
        bad=sum(dice < BAD_BELOW for _, dice in judged),
        bad_flagged=sum(dice < BAD_BELOW for dice in flagged),
    )
