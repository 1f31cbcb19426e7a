"""The result: Dice by patient, its spread, and every scan in a table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from statistics import fmean

from slicemill.core.evaluation.calibration import calibration
from slicemill.core.evaluation.intervals import mean_interval, median_interval
from slicemill.core.evaluation.rows import ScanScore
from slicemill.core.evaluation.summary import partly_labelled, patient_means, surface_summary
from slicemill.core.evaluation.triage import triage_worth
from slicemill.io.results import Results
from slicemill.io.scores.results import ScoreTables
from slicemill.pages.evidence import Evidence
from slicemill.pages.figures import results as result_figures
from slicemill.pages.figures.charts import distribution, group_caption, grouped
from slicemill.pages.figures.style import picture
from slicemill.pages.headline import institutions
from slicemill.pages.published import PUBLIC_PREFIX, published_block
from slicemill.pages.sections.blocks import (
    Block,
    Chart,
    Charts,
    Heading,
    Note,
    Section,
    Tile,
    Tiles,
)
from slicemill.pages.sections.confidence_blocks import confidence_blocks
from slicemill.pages.sections.detection_blocks import classifier_tiles
from slicemill.pages.sections.nights import night_blocks
from slicemill.pages.sections.scan_table import scan_table
from slicemill.pages.selection import by_dice

_DICE_LIMITS = (0.0, 1.0)


def result_section(results: Results, evidence: Evidence | None, anchors: Mapping[str, str]) -> Section:
    """Numbers with intervals, figures and the table; `anchors` leads from a scan id to the scan's page."""
    scores = results.scores
    if scores is None:
        blocks: list[Block] = [
            Note("No scores were given (--scores), so there is no result to show.", "missing")
        ]
    elif evidence is None:
        blocks = [Note("The score folder holds no finished scan yet.", "missing")]
    else:
        first = evidence.headline
        blocks = [
            *_model_notes(results, scores),
            Note(first.sentence, "warning" if first.warning else "plain"),
            *_numbers(evidence, scores),
            *_partly_labelled(first.scans),
            *_warnings(scores),
            *_charts(results, first.scans),
            *_confidence(first.scans),
            *night_blocks(scores.scans, results.run.card if results.run else None),
            *scan_table(results, scores, evidence, anchors),
            *_published(scores.scans),
        ]
    return Section("result", "Result", tuple(blocks))


def _published(rows: Sequence[ScanScore]) -> list[Block]:
    """What others reported, beside results on the public data set."""
    if not all(row.scan_id.startswith(PUBLIC_PREFIX) for row in rows):
        return []
    return [Heading("Published results"), published_block()]


def _model_notes(results: Results, scores: ScoreTables) -> list[Block]:
    notes: list[Block] = []
    card = results.run.card if results.run else None
    if card and card.model_id != scores.model_id:
        notes.append(
            Note(
                f"The run that was given holds model {card.model_id}, but model {scores.model_id} made "
                "these scores.",
                "warning",
            )
        )
    if scores.other_models:
        models = ", ".join(f"{name} ({count} scans)" for name, count in sorted(scores.other_models.items()))
        notes.append(
            Note(f"Shown are the scores of model {scores.model_id}. Others in the same folder: {models}.")
        )
    return notes


def _numbers(evidence: Evidence, scores: ScoreTables) -> list[Block]:
    rows, threshold = evidence.headline.scans, evidence.threshold
    classifier = threshold is not None
    tiles = _dice_tiles(rows) if threshold is None else classifier_tiles(evidence.slices, threshold)
    truthful = sum(bool(row.labelled_slices) if classifier else row.dice is not None for row in rows)
    tiles += [
        Tile(
            "Scans",
            f"{len(rows):,}",
            f"{truthful:,} with truth, {len({row.patient_id for row in rows}):,} patients",
        ),
        Tile(
            "Slices",
            f"{sum(row.slices for row in rows):,}",
            f"{sum(row.quarantined for row in rows):,} files set aside",
        ),
    ]
    blocks: list[Block] = [Tiles(tuple(tiles))]
    if classifier:
        blocks.append(Note("A classifier made these scores: it draws no masks, so there is no Dice."))
    elif not truthful:
        blocks.append(Note("None of these scans has a true mask, so there is no Dice.", "missing"))
    options = Counter(option for row in rows for option in row.options)
    thresholds = sorted({row.threshold for row in rows})
    settings = f"Model {scores.model_id}, threshold {' and '.join(f'{value:g}' for value in thresholds)}, "
    settings += f"test-time options: {', '.join(sorted(options)) or 'none'}."
    rule = (
        " Dice is 2·|P∩T| / (|P|+|T|) over all voxels of a scan at source resolution; both empty "
        "counts 1, one empty 0. "
    )
    rule += (
        "A patient's Dice is the mean over the patient's scans. Intervals are 95% percentile "
        "bootstrap intervals over patients."
    )
    return [*blocks, Note(settings + (rule if tiles[0].label == "Mean patient Dice" else ""))]


def _partly_labelled(rows: Sequence[ScanScore]) -> list[Block]:
    partly = [row for row in rows if partly_labelled(row)]
    if not partly:
        return []
    text = (
        f"{len(partly):,} of {len(rows):,} scans have masks for some of their slices only. Their Dice is of "
        "these slices; the last column of the table names them."
    )
    return [Note(text, "warning")]


def _warnings(scores: ScoreTables) -> list[Block]:
    warned = [row for row in scores.scans if row.warnings]
    if not warned:
        return []
    text = (
        f"{len(warned):,} of {len(scores.scans):,} scans carry a warning, in the last column of the table. "
        f"The first, {warned[0].scan_id}: {'; '.join(warned[0].warnings)}."
    )
    return [Note(text, "warning")]


def _dice_tiles(rows: Sequence[ScanScore]) -> list[Tile]:
    dice = list(patient_means(rows).values())
    if not dice:
        return []
    mean, median = mean_interval(dice), median_interval(dice)
    slices = mean_interval(list(patient_means(rows, "slice_mean_dice").values()))
    tiles = [
        Tile("Mean patient Dice", f"{mean.value:.3f}", mean.ends(3)),
        Tile("Median patient Dice", f"{median.value:.3f}", median.ends(3)),
        Tile(
            "Slice-mean Dice",
            f"{slices.value:.3f}",
            f"{slices.ends(3)}; empty slices count 1 if predicted empty",
        ),
    ]
    surface = surface_summary(rows)
    if surface.median is not None:
        measured = f"of {surface.measured} of {surface.patients} patients"
        if surface.measured < surface.patients:
            measured += f": in {surface.patients - surface.measured} no predicted tumour meets a true one"
        tiles.append(
            Tile(
                "Median HD95",
                f"{surface.median.value:.1f} {surface.unit}",
                f"{surface.median.ends(1, f' {surface.unit}')}, {measured}",
            )
        )
    elif surface.patients:
        tiles.append(Tile("Median HD95", "none", f"0 of {surface.patients} patients have a distance"))
    return tiles


def _charts(results: Results, rows: Sequence[ScanScore]) -> list[Block]:
    scored = by_dice(rows)
    if not scored:
        return []
    dice = list(patient_means(scored).values())
    true, predicted = [row.true_volume or 0 for row in scored], [row.predicted_volume or 0 for row in scored]
    scan_dice = [row.dice for row in scored if row.dice is not None]
    by_place: dict[str, list[float]] = {}
    places = institutions(results, scored)
    for row, value in zip(scored, scan_dice, strict=True):
        by_place.setdefault(places[row.scan_id], []).append(value)
    return [
        Charts(
            (
                Chart(
                    picture(distribution(dice, "Dice of a patient", "patients", _DICE_LIMITS)),
                    f"Dice of {len(dice)} patients, with the mean and its 95% interval.",
                    f"Histogram of patient Dice; mean {fmean(dice):.3f}.",
                ),
                Chart(
                    picture(grouped(by_place, "Dice of a scan", (-0.02, 1.02))),
                    group_caption("Dice by institution", by_place),
                    "Dice of each scan, grouped by institution.",
                ),
                Chart(
                    picture(result_figures.volumes(true, predicted)),
                    "Predicted against true tumour volume of each scan; logarithmic above 100 voxels.",
                    "Scatter of predicted against true volume, with the line of equality.",
                ),
                Chart(
                    picture(result_figures.dice_by_volume(true, scan_dice)),
                    "Dice against the true tumour's volume.",
                    "Scatter of Dice against true tumour volume.",
                ),
            )
        )
    ]


def _confidence(rows: Sequence[ScanScore]) -> list[Block]:
    """Calibration and triage of scans with truth; nothing of a classifier, or without truth."""
    if not any(row.dice is not None and row.expected_dice is not None for row in rows):
        return []
    return [
        Heading("Calibration and confidence"),
        *confidence_blocks(rows, calibration(rows), triage_worth(rows)),
    ]
