"""A cross-validation as a page of its own: the numbers, the worst scans with why, calibration, triage."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime

from slicemill.core.evaluation.intervals import Interval
from slicemill.core.evaluation.rows import ScanScore
from slicemill.core.results.out_of_fold import OutOfFold, WorstScan
from slicemill.pages.figures.charts import distribution
from slicemill.pages.figures.style import picture
from slicemill.pages.page import Page, render
from slicemill.pages.published import PUBLIC_PREFIX, published_block
from slicemill.pages.sections.blocks import (
    Block,
    Brief,
    BriefLine,
    Cell,
    Chart,
    Charts,
    Note,
    Section,
    TableBlock,
    TableColumn,
    Tile,
    Tiles,
    number,
    without_empty_columns,
    words,
)
from slicemill.pages.sections.confidence_blocks import WHY, confidence_blocks, threshold_blocks, why_cell


def as_html(result: OutOfFold, rows: Sequence[ScanScore], name: str, file: str, timestamp: datetime) -> bytes:
    """The page, UTF-8; `rows` are of all folds, `name` is the split's, `file` the table of the worst."""
    sections = [
        Section("brief", "In short", (_brief(result),)),
        Section("result", "Result", tuple(_numbers(result, rows))),
        Section("worst", "The worst scans", (_worst(result.worst, file),)),
        Section(
            "confidence",
            "Calibration and confidence",
            (
                *confidence_blocks(rows, result.calibration, result.triage),
                *threshold_blocks(result.threshold),
            ),
        ),
    ]
    if rows and all(row.scan_id.startswith(PUBLIC_PREFIX) for row in rows):
        sections.append(Section("published", "Published results", (published_block(),)))
    synthetic = any(row.scan_id.startswith("PHANTOM_") for row in rows)
    return render(Page("slicemill cross-validation", (("split", name),), timestamp, synthetic), sections)


def _brief(result: OutOfFold) -> Brief:
    lines = (
        BriefLine("For a clinician", " ".join(_clinician(result))),
        BriefLine("For a data engineer", " ".join(_engineer(result))),
        BriefLine("For a researcher", " ".join(_researcher(result))),
    )
    return Brief(tuple(line for line in lines if line.text))


def _clinician(result: OutOfFold) -> Iterator[str]:
    mean = result.dice.mean_patient_dice
    if mean is None:
        yield "There is no truth to compare with."
        return
    yield f"On patients that the model never saw, its masks reach a mean Dice of {mean.value:.2f};"
    yield "1 is a perfect match."
    worth = result.triage
    if worth and worth.flagged_dice and worth.rest_dice:
        yield (
            f"To be looked at first: {worth.flagged} of {worth.flagged + worth.rest} scans, with a mean Dice "
            f"of {worth.flagged_dice.value:.2f}; the rest have {worth.rest_dice.value:.2f}."
        )
    yield "Not for diagnosis."


def _engineer(result: OutOfFold) -> Iterator[str]:
    dice = result.dice
    yield f"{len(result.folds)} folds, {dice.scans:,} scans, {dice.scans_with_truth:,} of them with truth."
    warned = sum(bool(scan.warnings) for scan in result.worst)
    yield f"Of the {len(result.worst)} worst scans {warned} carry a warning about their input."


def _researcher(result: OutOfFold) -> Iterator[str]:
    mean, median = result.dice.mean_patient_dice, result.dice.median_patient_dice
    if mean and median:
        yield f"Mean patient Dice {mean.value:.3f} ({mean.ends(3)}),"
        yield f"median {median.value:.3f} ({median.ends(3)})."
    kinds = [scan.why for scan in result.worst if scan.why]
    if kinds:
        counts = ", ".join(f"{kinds.count(kind)} {kind}" for kind in dict.fromkeys(kinds))
        yield f"Of the worst scans most wrong voxels are: {counts}."
    if result.threshold:
        gain = result.threshold.difference.mean_difference
        yield f"A threshold chosen on other folds is worth {gain.value:+.3f} Dice."


def _numbers(result: OutOfFold, rows: Sequence[ScanScore]) -> Iterator[Block]:
    tiles = [
        Tile(label, f"{interval.value:.3f}", interval.ends(3))
        for label, interval in (
            ("Mean patient Dice", result.dice.mean_patient_dice),
            ("Median patient Dice", result.dice.median_patient_dice),
        )
        if interval
    ]
    tiles.append(Tile("Scans", f"{len(rows):,}", f"{len({row.patient_id for row in rows}):,} patients"))
    yield Tiles(tuple(tiles))
    yield Note("Each scan is scored once, by the model of the fold that never saw its patient.")
    dice = [row.dice for row in rows if row.dice is not None]
    if dice:
        chart = Chart(
            picture(distribution(dice, "Dice of a scan", "scans", (0.0, 1.0))),
            f"Dice of {len(dice)} scans out of fold, with the mean and its 95% interval.",
            "Histogram of the scans' Dice.",
        )
        yield Charts((chart,))
    columns = (
        TableColumn("Fold", numeric=True),
        TableColumn("Scans", numeric=True),
        TableColumn("Mean patient Dice"),
        TableColumn("Median"),
        TableColumn("Model"),
    )
    cells = tuple(
        (
            number(fold.fold),
            number(fold.dice.scans),
            _interval(fold.dice.mean_patient_dice),
            _interval(fold.dice.median_patient_dice),
            words(fold.model_id),
        )
        for fold in result.folds
    )
    yield TableBlock("folds", "Folds, with 95% bootstrap intervals over patients.", columns, cells)


def _interval(interval: Interval | None) -> Cell:
    if interval is None:
        return number(None)
    if interval.low is None or interval.high is None:
        return number(interval.value, 3)
    text = f"{interval.value:.3f} ({interval.low:.3f} to {interval.high:.3f})"
    return Cell(text, interval.value)


def _worst(worst: Sequence[WorstScan], file: str) -> Block:
    if not worst:
        return Note("No scan has a truth, so none is the worst.", "missing")
    names = ("Dice", "Expected Dice", "True", "Predicted", "Missed", "False", "Border")
    columns = (
        TableColumn("Scan"),
        TableColumn("Fold", numeric=True),
        TableColumn("Why"),
        *(TableColumn(name, "" if "Dice" in name else "voxels", numeric=True) for name in names),
        TableColumn("Warnings"),
    )
    rows = [_worst_row(scan) for scan in worst]
    return TableBlock(
        "worst",
        f"The {len(worst)} scans of lowest Dice. {WHY}",
        *without_empty_columns(columns, rows),
        more="The same as CSV: ",
        file=file,
    )


def _worst_row(scan: WorstScan) -> tuple[Cell, ...]:
    return (
        words(scan.scan_id),
        number(scan.fold),
        why_cell(scan.why),
        number(scan.dice, 3),
        number(scan.expected_dice, 3),
        number(scan.true_volume),
        number(scan.predicted_volume),
        number(scan.missed_voxels),
        number(scan.false_voxels),
        number(scan.border_voxels),
        words("; ".join(scan.warnings)),
    )
