"""Every scored scan in a table, the worst first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean

from slicemill.core.evaluation.rows import ScanScore
from slicemill.core.results.out_of_fold import why
from slicemill.io.results import Results
from slicemill.io.scores.results import ScoreTables
from slicemill.io.storage.uri import display
from slicemill.pages.evidence import Evidence
from slicemill.pages.headline import institutions, parts_of_scores
from slicemill.pages.sections.blocks import (
    Block,
    Cell,
    Heading,
    TableBlock,
    TableColumn,
    number,
    without_empty_columns,
    words,
)
from slicemill.pages.sections.confidence_blocks import WHY, first_look, why_cell

#: Rows of the table of scans.
MAX_TABLE_ROWS = 1000

_NUMBERS = (
    ("Slice accuracy", ""),
    ("Dice", ""),
    ("Expected Dice", ""),
    ("IoU", ""),
    ("Slice-mean Dice", ""),
    ("HD95", "px"),
    ("HD95", "mm"),
    ("Predicted", "voxels"),
    ("True", "voxels"),
    ("Predicted", "mL"),
    ("True", "mL"),
    ("Slices", ""),
    ("Set aside", "files"),
)


def scan_table(
    results: Results, scores: ScoreTables, evidence: Evidence, anchors: Mapping[str, str]
) -> list[Block]:
    """The heading and the table; `anchors` leads from a scan id to the scan's page."""
    accuracy = _accuracy_by_scan(evidence)
    ordered = sorted(scores.scans, key=lambda row: _rank(row, accuracy))
    columns = (
        TableColumn("Scan"),
        TableColumn("Institution"),
        TableColumn("Part"),
        TableColumn("Look at this first"),
        TableColumn("Why"),
        *(TableColumn(name, unit, numeric=True) for name, unit in _NUMBERS),
        TableColumn("Warnings"),
    )
    places = institutions(results, ordered)
    part_names = _part_names(scores.scans, parts_of_scores(results))
    rows = [
        (
            words(row.scan_id, anchors.get(row.scan_id)),
            words(places[row.scan_id]),
            words(part_names.get(row.scan_id, "")),
            first_look(row),
            why_cell(why(row)),
            number(accuracy.get(row.scan_id), 3),
            *_score_cells(row),
        )
        for row in ordered[:MAX_TABLE_ROWS]
    ]
    worst = "lowest Dice" if evidence.threshold is None else "lowest accuracy"
    remark = f"All {len(ordered):,} scans are in the table as CSV: "
    if len(ordered) > MAX_TABLE_ROWS:
        remark = f"Shown are the {MAX_TABLE_ROWS:,} scans of {worst}. {remark}"
    caption = f"Every scored scan, {worst} first. A column's head sorts; a linked scan has a page below."
    if any(row.missed_voxels is not None for row in ordered):
        caption = f"{caption} {WHY}"
    return [
        Heading("Scans"),
        TableBlock(
            "scans",
            caption,
            *without_empty_columns(columns, rows),
            search=True,
            more=remark,
            file=display(scores.places.patients_csv),
        ),
    ]


def _accuracy_by_scan(evidence: Evidence) -> dict[str, float]:
    """Share of a scan's slices that a classifier classified right, where it is known."""
    correct: dict[str, list[bool]] = {}
    for score in evidence.slices if evidence.threshold is not None else ():
        if score.true is not None:
            correct.setdefault(score.scan_id, []).append(score.positive == bool(score.true))
    return {scan_id: fmean(values) for scan_id, values in correct.items()}


def _rank(row: ScanScore, accuracy: Mapping[str, float]) -> tuple[float, str]:
    quality = accuracy.get(row.scan_id, row.dice)
    return 2.0 if quality is None else quality, row.scan_id


def _part_names(rows: Sequence[ScanScore], parts: Mapping[str, str]) -> dict[str, str]:
    """Part of the split by scan id, or whether the model has seen the patient; empty if nothing is known."""
    unknown = {True: "seen by the model", False: "new to the model", None: "not in the split"}
    if not parts and all(row.seen is None for row in rows):
        return {}
    return {row.scan_id: parts.get(row.patient_id, unknown[row.seen]) for row in rows}


def _score_cells(row: ScanScore) -> tuple[Cell, ...]:
    return (
        number(row.dice, 3),
        number(row.expected_dice, 3),
        number(row.iou, 3),
        number(row.slice_mean_dice, 3),
        number(None if row.spacing else row.hd95, 1),
        number(row.hd95 if row.spacing else None, 1),
        number(row.predicted_volume),
        number(row.true_volume),
        number(row.predicted_volume_ml, 1),
        number(row.true_volume_ml, 1),
        number(row.slices),
        number(row.quarantined),
        words("; ".join(row.warnings)),
    )
