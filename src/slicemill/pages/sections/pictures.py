"""The sections with pictures: example scans, worst slices, scan pages."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from slicemill.core.evaluation.rows import ScanScore
from slicemill.io.results import Results
from slicemill.io.scores.results import PredictedScan, ScoreTables, SliceScore
from slicemill.pages.evidence import Evidence
from slicemill.pages.figures.heat import QUANTITIES, Quantity
from slicemill.pages.figures.overlay import (
    largest_slice,
    overlay,
    viewer,
    weight,
)
from slicemill.pages.sections.blocks import (
    Block,
    Heading,
    Note,
    Overlay,
    Overlays,
    Section,
    Viewer,
)
from slicemill.pages.sections.detection_blocks import detection_blocks
from slicemill.pages.selection import (
    EXAMPLES,
    MAX_SLICE_SCANS,
    OF_ONE_SCAN,
    best_with_tumour,
    examples,
    false_alarms,
    pages,
    worst_with_tumour,
)

#: Bytes that scan pages may add to the whole page.
PAGE_BUDGET = 5_000_000
_NO_PIXELS = "Pictures need the slices: give --lake, or --raw with the folder that holds the scored scans."

_NO_MAPS = (
    "Scores with probabilities (slicemill score --nifti --probabilities) show them over FLAIR here and on "
    "the scan pages."
)

Drawing = Overlay | Viewer


@dataclass(frozen=True)
class DrawingPlan:
    """A picture to draw of a scan."""

    scan_id: str
    draw: Callable[[PredictedScan], Drawing | None]


def draw(results: Results, scores: ScoreTables, plans: Sequence[DrawingPlan]) -> list[Drawing | None]:
    """Draw every picture, one scan in memory at a time; None where neither lake nor raw folders hold it.

    None also where a plan needs what scoring did not write.
    """
    rows = {row.scan_id: row for row in scores.scans}
    drawings: list[Drawing | None] = [None] * len(plans)
    for scan_id in dict.fromkeys(plan.scan_id for plan in plans):
        scored = results.predicted_scan(rows[scan_id])
        if scored is None:
            continue
        for place, plan in enumerate(plans):
            if plan.scan_id == scan_id:
                drawings[place] = plan.draw(scored)
    return drawings


def picture_sections(
    results: Results, evidence: Evidence | None, scan_ids: Sequence[str], sheets: int | None = None
) -> tuple[list[Section], dict[str, str]]:
    """Sections of examples, slices and scan pages, and the anchor of each scan that has a page.

    `scan_ids` are scans that get a page besides the best and the worst, `sheets` counts contact sheets.
    """
    scores = results.scores
    if scores is None or evidence is None:
        return [], {}
    scans, slices = evidence.headline.scans, evidence.slices
    groups = {
        **{f"scan: {name}": [_example(row) for row in rows] for name, rows in examples(scans).items()},
        "slice: alarm": [_slice_overlay(score) for score in false_alarms(slices)],
        "slice: tumour": [_slice_overlay(score) for score in worst_with_tumour(slices)],
        "slice: best": [_slice_overlay(score) for score in best_with_tumour(slices)],
        "map": [_map(row, quantity) for row in pages(scans, scores.scans, ()) for quantity in QUANTITIES],
        "page": [_page(row, place) for place, row in enumerate(pages(scans, scores.scans, scan_ids))],
    }
    queue = iter(draw(results, scores, [plan for group in groups.values() for plan in group]))
    drawings = {name: [next(queue) for _ in group] for name, group in groups.items()}
    viewers, omitted = _within_budget(drawings["page"])
    anchors = {viewer.title: viewer.anchor for viewer in viewers}
    sections = [
        Section("examples", "Example scans", tuple(_example_blocks(drawings, anchors))),
        Section(
            "slices",
            "Slice by slice",
            tuple(_slice_blocks(evidence, drawings)),
        ),
        Section("pages", "Scan pages", tuple(_page_blocks(viewers, omitted, scan_ids, sheets))),
    ]
    return sections, anchors


def _example(row: ScanScore) -> DrawingPlan:
    def draw_example(scored: PredictedScan) -> Overlay:
        place = largest_slice(scored)
        dice = "no truth" if row.dice is None else f"scan's Dice {row.dice:.3f}"
        return overlay(scored, place, row.scan_id, f"slice {place}, {dice}")

    return DrawingPlan(row.scan_id, draw_example)


def _map(row: ScanScore, quantity: Quantity) -> DrawingPlan:
    def draw_map(scored: PredictedScan) -> Overlay | None:
        place = largest_slice(scored)
        if place not in scored.levels:
            return None
        return overlay(scored, place, row.scan_id, f"slice {place}, {quantity.name}", quantity)

    return DrawingPlan(row.scan_id, draw_map)


def _slice_overlay(score: SliceScore) -> DrawingPlan:
    prediction = (
        f"probability {score.max_probability:.2f}"
        if score.predicted is None
        else f"predicted {score.predicted:,} px"
    )
    detail = f"slice {score.slice_index}, {prediction}, true {score.true or 0:,} px"
    if score.dice is not None:
        detail += f", Dice {score.dice:.3f}"
    return DrawingPlan(
        score.scan_id, lambda scored: overlay(scored, score.slice_index, score.scan_id, detail)
    )


def _page(row: ScanScore, place: int) -> DrawingPlan:
    dice = "No Dice." if row.dice is None else f"Dice {row.dice:.3f}."
    return DrawingPlan(
        row.scan_id, lambda scored: viewer(scored, f"scan-{place + 1}", f"{dice} {row.slices} slices.")
    )


def _within_budget(drawings: Sequence[Drawing | None]) -> tuple[list[Viewer], int]:
    """Scan pages in order as long as they fit into the budget, and how many did not."""
    viewers = [drawing for drawing in drawings if isinstance(drawing, Viewer)]
    fitting: list[Viewer] = []
    budget = PAGE_BUDGET
    for page in viewers:
        if weight(page) <= budget:
            fitting.append(page)
            budget -= weight(page)
    return fitting, len(viewers) - len(fitting)


def _overlays(drawings: Sequence[Drawing | None], anchors: Mapping[str, str]) -> list[Block]:
    items = tuple(drawing for drawing in drawings if isinstance(drawing, Overlay))
    blocks: list[Block] = [Overlays(tuple(_linked(item, anchors) for item in items))] if items else []
    missing = len(drawings) - len(items)
    if missing:
        blocks.append(Note(f"{missing} of {len(drawings)} pictures are missing. {_NO_PIXELS}", "missing"))
    return blocks


def _linked(item: Overlay, anchors: Mapping[str, str]) -> Overlay:
    anchor = anchors.get(item.label)
    return item if anchor is None else replace(item, anchor=anchor)


def _example_blocks(
    drawings: Mapping[str, Sequence[Drawing | None]], anchors: Mapping[str, str]
) -> list[Block]:
    rule = (
        f"The {EXAMPLES} worst, {EXAMPLES} middle and {EXAMPLES} best scans by Dice (all of them up "
        f"to {3 * EXAMPLES}), each at the slice with its largest tumour."
    )
    if not any(name.startswith("scan: ") for name in drawings):
        return [Note("A classifier draws no masks: its slices are shown below.")]
    blocks: list[Block] = [Note(rule)]
    for name, group in drawings.items():
        kind, _, title = name.partition(": ")
        if kind == "scan":
            blocks += [Heading(title), *_overlays(group, anchors)]
    return [*blocks, *_map_blocks(drawings["map"], anchors)]


def _map_blocks(maps: Sequence[Drawing | None], anchors: Mapping[str, str]) -> list[Block]:
    items = tuple(_linked(item, anchors) for item in maps if isinstance(item, Overlay))
    if not items:
        return [Note(_NO_MAPS)]
    rule = (
        "The three worst and the two best scans by Dice (without truth, the largest and the smallest "
        "predictions), each at the slice with its largest tumour. Uncertainty is the entropy of the "
        "network's probability: 1 at one half, 0 where the network is sure, rightly or not. Both are as the "
        "network gave them, before slices are averaged and components chosen."
    )
    scales = tuple(quantity.scale for quantity in QUANTITIES)
    return [Heading("Probability and uncertainty over FLAIR"), Note(rule), Overlays(items, scales)]


def _slice_blocks(evidence: Evidence, drawings: Mapping[str, Sequence[Drawing | None]]) -> list[Block]:
    slices, threshold = evidence.slices, evidence.threshold
    count, scans = len(evidence.compared), len(evidence.headline.scans)
    blocks: list[Block] = []
    if count < scans:
        blocks.append(
            Note(
                f"Read were the slices of {count:,} of {scans:,} scans: up to {MAX_SLICE_SCANS // 2} "
                "of lowest Dice and as many with most voxels predicted beyond the truth."
            )
        )
    blocks += detection_blocks(slices, threshold)
    blocks.append(Heading("False alarms: slices without tumour on which one was predicted"))
    rule = f" first, at most {OF_ONE_SCAN} of a scan."
    first = "The largest" if threshold is None else "The highest probability"
    blocks += _ranked(drawings["slice: alarm"], f"{first}{rule}", slices, "false alarm")
    if threshold is None:
        title, order = "Tumour slices of lowest Dice", "The lowest Dice first, of equals the largest tumour"
    else:
        title, order = "Tumour slices that were missed", "The lowest probability"
    blocks.append(Heading(title))
    blocks += _ranked(drawings["slice: tumour"], f"{order}{rule}", slices, "such slice")
    if threshold is None:
        title, order = "Tumour slices of highest Dice", "The highest Dice first, of equals the largest tumour"
    else:
        title, order = "Tumour slices that were found", "The highest probability"
    blocks.append(Heading(title))
    if drawings["slice: best"]:
        return [*blocks, Note(f"{order}{rule}"), *_overlays(drawings["slice: best"], {})]
    return [*blocks, Note("No other slice with tumour was found.")]


def _ranked(
    drawings: Sequence[Drawing | None], rule: str, slices: Sequence[SliceScore], subject: str
) -> list[Block]:
    if drawings:
        return [Note(rule), *_overlays(drawings, {})]
    count = sum(score.true is not None for score in slices)
    return [Note(f"There is no {subject} among the {count:,} slices whose truth is known.")]


def _page_blocks(
    viewers: Sequence[Viewer], omitted: int, scan_ids: Sequence[str], sheets: int | None
) -> list[Block]:
    if not viewers:
        return [Note(_NO_PIXELS, "missing")]
    text = (
        "The three worst and the two best scans by Dice (without truth, the largest and the "
        "smallest predictions; of a classifier, the first five), and those that were asked for "
        "with --scan ID. Move with the slider or the arrow keys."
    )
    blocks: list[Block] = [Note(text)]
    if sheets is not None:
        blocks.append(
            Note(f"All slices of each of {sheets:,} scans are in sheets/ beside this page, a picture a scan.")
        )
    if omitted:
        blocks.append(
            Note(f"{omitted} pages did not fit into {PAGE_BUDGET / 1e6:g} MB and were left out.", "missing")
        )
    lacking = [scan_id for scan_id in scan_ids if scan_id not in {viewer.title for viewer in viewers}]
    if lacking:
        blocks.append(Note("Asked for, but not shown: " + ", ".join(lacking) + ".", "missing"))
    return [*blocks, *viewers]
