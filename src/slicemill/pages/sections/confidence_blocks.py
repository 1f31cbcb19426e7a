"""How far a model's own probabilities can be trusted, and which scans to look at first."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from slicemill.core.evaluation.calibration import Calibration, ThresholdChoice
from slicemill.core.evaluation.intervals import Interval
from slicemill.core.evaluation.mistakes import BORDER, Kind
from slicemill.core.evaluation.rows import ScanScore
from slicemill.core.evaluation.triage import BAD_BELOW, EXPECTED_BELOW, TriageWorth
from slicemill.pages.figures.confidence import expected_and_true_dice, voxel_reliability
from slicemill.pages.figures.style import picture
from slicemill.pages.sections.blocks import (
    Block,
    Cell,
    Chart,
    Charts,
    Note,
    TableBlock,
    TableColumn,
    number,
    words,
)


def confidence_blocks(
    rows: Sequence[ScanScore], reliability: Calibration | None, worth: TriageWorth | None
) -> list[Block]:
    """Reliability of voxels, expected against true Dice, and what triage is worth; each where it is known."""
    if reliability is None and worth is None:
        return [
            Note("These scores hold no probabilities with a truth, so calibration is not known.", "missing")
        ]
    charts = [*_reliability(reliability), *_expected(rows)]
    return [Charts(tuple(charts)), *([_worth_note(worth)] if worth else [])]


def _reliability(reliability: Calibration | None) -> Iterator[Chart]:
    if reliability is None:
        return
    error = "" if reliability.error is None else f" Expected calibration error {reliability.error:.3f}."
    caption = (
        f"Reliability over the labelled voxels of {reliability.scans:,} scans, by twentieths of probability; "
        f"the lowest, nearly all of the head, counts for no error.{error}"
    )
    yield Chart(
        picture(voxel_reliability(reliability.bins)),
        caption,
        "Curve of the share of tumour among voxels against their probability.",
    )


def _expected(rows: Sequence[ScanScore]) -> Iterator[Chart]:
    pairs = [(row.expected_dice, row.dice) for row in rows if row.dice is not None]
    points = [(expected, dice) for expected, dice in pairs if expected is not None]
    if not points:
        return
    expected, true = zip(*points, strict=True)
    yield Chart(
        picture(expected_and_true_dice(expected, true)),
        "Dice that the model expects by its own probabilities, and the Dice that it reached: a point a scan.",
        f"Scatter of expected against true Dice of {len(points)} scans.",
    )


def _worth_note(worth: TriageWorth) -> Note:
    rule = (
        "To look at first: a scan without predicted tumour, with an expected Dice below "
        f"{EXPECTED_BELOW}, or that lacks a sequence."
    )
    if not worth.flagged_dice or not worth.rest_dice:
        kind = "all" if worth.flagged else "none"
        return Note(f"{rule} That is {kind} of {worth.flagged + worth.rest:,} scans with truth.")
    return Note(
        f"{rule} That is {worth.flagged:,} of {worth.flagged + worth.rest:,} scans with truth: their mean "
        f"Dice is {_words(worth.flagged_dice)}, that of the rest {_words(worth.rest_dice)}. Of {worth.bad:,} "
        f"bad masks (Dice below {BAD_BELOW}) the rule names {worth.bad_flagged:,}."
    )


def _words(interval: Interval) -> str:
    if interval.low is None or interval.high is None:
        return f"{interval.value:.3f}"
    return f"{interval.value:.3f} ({interval.low:.3f} to {interval.high:.3f})"


def threshold_blocks(choice: ThresholdChoice | None) -> list[Block]:
    """The threshold that other folds choose, tried on each fold; nothing where it is not known."""
    if choice is None:
        return []
    columns = (
        TableColumn("Fold", numeric=True),
        TableColumn("Threshold", "best on the other folds", numeric=True),
        TableColumn("Dice by it", numeric=True),
        TableColumn("Dice by 0.5", numeric=True),
    )
    rows: tuple[tuple[Cell, ...], ...] = tuple(
        (number(fold.fold), number(fold.threshold, 2), number(fold.dice, 3), number(fold.dice_at_half, 3))
        for fold in choice.folds
    )
    gain = choice.difference.mean_difference
    ends = "" if gain.low is None else f" (95% interval {gain.low:+.3f} to {gain.high:+.3f})"
    caption = (
        f"A threshold chosen out of fold gains {gain.value:+.3f} mean patient Dice{ends} on 0.5. Over all "
        f"folds {choice.threshold:g} is best. Dice of plain masks, before any clean-up."
    )
    return [TableBlock("thresholds", caption, columns, rows)]


#: What the column "Why" of a table of scans says.
WHY = (
    "Why: the kind that most wrong voxels are of. A wrong voxel is of the border if a matched voxel of its "
    f"slice lies within {BORDER} rows and columns; of the others, missed are tumour in truth alone, false "
    "positive in the prediction alone."
)


def first_look(row: ScanScore) -> Cell:
    """The cell that says why a scan is to be looked at first; sorted so that such scans come first."""
    text = "; ".join(row.look_first or ())
    return Cell(text, f"0 {row.expected_dice or 0:.3f}" if text else "1")


def why_cell(kind: Kind | None) -> Cell:
    """The cell that says where most of a scan's wrong voxels lie."""
    return words("" if kind is None or kind == "none" else kind)
