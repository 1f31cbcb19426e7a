"""Which scans a person should look at first, and whether that rule finds the bad masks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from slicemill.core.evaluation.intervals import Interval, mean_interval
from slicemill.core.evaluation.rows import ScanScore

#: A scan is to be looked at first if the model itself expects a Dice below this. Models are surer than they
#: should be: the number, and the rule of missing sequences, were set on one fold of five (docs/scoring.md).
EXPECTED_BELOW = 0.93

#: A mask of a lower Dice is a bad one, when the rule's worth is counted.
BAD_BELOW = 0.7


def look_first(
    expected_dice: float, predicted_volume: int, missing_sequences: Sequence[str] = ()
) -> tuple[str, ...]:
    """Why a scan is to be looked at first, in words; nothing for a scan that can wait.

    >>> look_first(expected_dice=0.55, predicted_volume=900)
    ('expected Dice 0.55',)
    """
    reasons = [f"{name} is missing" for name in missing_sequences]
    if predicted_volume == 0:
        reasons.append("no tumour was predicted")
    elif expected_dice < EXPECTED_BELOW:
        reasons.append(f"expected Dice {expected_dice:.2f}")
    return tuple(reasons)


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
    """What the rule is worth on scans with truth; None of a classifier or of an earlier release's scores."""
    judged = [(row, row.dice) for row in rows if row.dice is not None and row.look_first is not None]
    if not judged:
        return None
    flagged = [dice for row, dice in judged if row.look_first]
    rest = [dice for row, dice in judged if not row.look_first]
    return TriageWorth(
        flagged=len(flagged),
        rest=len(rest),
        flagged_dice=mean_interval(flagged) if flagged else None,
        rest_dice=mean_interval(rest) if rest else None,
        bad=sum(dice < BAD_BELOW for _, dice in judged),
        bad_flagged=sum(dice < BAD_BELOW for dice in flagged),
    )
