"""The sections with pictures: example scans, worst slices, scan pages."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from slicemill.core.evaluation.rows import ScanScore
from slicemill.io.results import Results
from slicemill.io.scores.results import PredictedScan, ScoreTables, SliceScore
from slicemill.pages.evidence import Evidence
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
    examples,
    false_alarms,
    pages,
    worst_with_tumour,
)

#: Bytes that scan pages may add to the whole page.
PAGE_BUDGET = 5_000_000
_NO_PIXELS = "Pictures need the slices: give --lake, or --raw with the folder that holds the scored scans."

Made = Overlay | Viewer


@dataclass(frozen=True)
class Wanted:
    """A picture to make of a scan."""

    scan_id: str
    make: Callable[[PredictedScan], Made]


def draw(results: Results, scores: ScoreTables, wanted: Sequence[Wanted]) -> list[Made | None]:
    """Make every picture, one scan in memory at a time; None where neither lake nor raw folders hold it."""
    rows = {row.scan_id: row for row in scores.scans}
    made: list[Made | None] = [None] * len(wanted)
    for scan_id in dict.fromkeys(one.scan_id for one in wanted):
        scored = results.predicted_scan(rows[scan_id])
        if scored is None:
            continue
        for place, one in enumerate(wanted):
            if one.scan_id == scan_id:
                made[place] = one.make(scored)
    return made


def picture_sections(
    results: Results, evidence: Evidence | None, scan_ids: Sequence[str]
) -> tuple[list[Section], dict[str, str]]:
    """Sections of examples, slices and scan pages, and the anchor of each scan that has a page.

    `scan_ids` are scans that get a page besides the best and the worst.
    """
    scores = results.scores
    if scores is None or evidence is None:
        return [], {}
    shown, slices = evidence.headline.scans, evidence.slices
    groups = {
        **{f"scan: {name}": [_example(row) for row in rows] for name, rows in examples(shown).items()},
        "slice: alarm": [_slice_overlay(one) for one in false_alarms(slices)],
        "slice: tumour": [_slice_overlay(one) for one in worst_with_tumour(slices)],
        "page": [_page(row, place) for place, row in enumerate(pages(shown, scores.scans, scan_ids))],
    }
    made = iter(draw(results, scores, [one for group in groups.values() for one in group]))
    drawn = {name: [next(made) for _ in group] for name, group in groups.items()}
    viewers, left_out = _within_budget(drawn["page"])
    anchors = {one.title: one.anchor for one in viewers}
    sections = [
        Section("examples", "Example scans", tuple(_example_blocks(drawn, anchors))),
        Section(
            "slices",
            "Slice by slice",
            tuple(_slice_blocks(evidence, drawn)),
        ),
        Section("pages", "Scan pages", tuple(_page_blocks(viewers, left_out, scan_ids))),
    ]
    return sections, anchors


def _example(row: ScanScore) -> Wanted:
    def make(scored: PredictedScan) -> Overlay:
        place = largest_slice(scored)
        dice = "no truth" if row.dice is None else f"scan's Dice {row.dice:.3f}"
        return overlay(scored, place, row.scan_id, f"slice {place}, {dice}")

    return Wanted(row.scan_id, make)


def _slice_overlay(one: SliceScore) -> Wanted:
    said = (
        f"probability {one.max_probability:.2f}"
        if one.predicted is None
        else f"predicted {one.predicted:,} px"
    )
    detail = f"slice {one.slice_index}, {said}, true {one.true or 0:,} px"
    if one.dice is not None:
        detail += f", Dice {one.dice:.3f}"
    return Wanted(one.scan_id, lambda scored: overlay(scored, one.slice_index, one.scan_id, detail))


def _page(row: ScanScore, place: int) -> Wanted:
    dice = "No Dice." if row.dice is None else f"Dice {row.dice:.3f}."
    return Wanted(
        row.scan_id, lambda scored: viewer(scored, f"scan-{place + 1}", f"{dice} {row.slices} slices.")
    )


def _within_budget(made: Sequence[Made | None]) -> tuple[list[Viewer], int]:
    """Scan pages in order as long as they fit into the budget, and how many did not."""
    kept: list[Viewer] = []
    left, left_out = PAGE_BUDGET, 0
    for one in made:
        if isinstance(one, Viewer) and weight(one) <= left:
            kept.append(one)
            left -= weight(one)
        elif isinstance(one, Viewer):
            left_out += 1
    return kept, left_out


def _overlays(made: Sequence[Made | None], anchors: Mapping[str, str]) -> list[Block]:
    items = tuple(one for one in made if isinstance(one, Overlay))
    found: list[Block] = [Overlays(tuple(_linked(one, anchors) for one in items))] if items else []
    if len(items) < len(made):
        found.append(
            Note(f"{len(made) - len(items)} of {len(made)} pictures are missing. {_NO_PIXELS}", "missing")
        )
    return found


def _linked(one: Overlay, anchors: Mapping[str, str]) -> Overlay:
    anchor = anchors.get(one.label)
    return one if anchor is None else Overlay(**{**vars(one), "anchor": anchor})


def _example_blocks(drawn: Mapping[str, Sequence[Made | None]], anchors: Mapping[str, str]) -> list[Block]:
    rule = (
        f"The {EXAMPLES} worst, {EXAMPLES} middle and {EXAMPLES} best scans by Dice (all of them up "
        f"to {3 * EXAMPLES}), each at the slice with its largest tumour."
    )
    if not any(name.startswith("scan: ") for name in drawn):
        return [Note("A classifier draws no masks: its slices are shown below.")]
    blocks: list[Block] = [Note(rule)]
    for name, made in drawn.items():
        kind, _, title = name.partition(": ")
        if kind == "scan":
            blocks += [Heading(title), *_overlays(made, anchors)]
    return blocks


def _slice_blocks(evidence: Evidence, drawn: Mapping[str, Sequence[Made | None]]) -> list[Block]:
    slices, threshold = evidence.slices, evidence.threshold
    compared, scans = len(evidence.compared), len(evidence.headline.scans)
    blocks: list[Block] = []
    if compared < scans:
        blocks.append(
            Note(
                f"Read were the slices of {compared:,} of {scans:,} scans: up to {MAX_SLICE_SCANS // 2} "
                "of lowest Dice and as many with most voxels predicted beyond the truth."
            )
        )
    blocks += detection_blocks(slices, threshold)
    blocks.append(Heading("False alarms: slices without tumour on which one was predicted"))
    rule = f" first, at most {OF_ONE_SCAN} of a scan."
    first = "The largest" if threshold is None else "The highest probability"
    blocks += _ranked(drawn["slice: alarm"], f"{first}{rule}", slices, "false alarm")
    if threshold is None:
        title, order = "Tumour slices of lowest Dice", "The lowest Dice first, of equals the largest tumour"
    else:
        title, order = "Tumour slices that were missed", "The lowest probability"
    blocks.append(Heading(title))
    blocks += _ranked(drawn["slice: tumour"], f"{order}{rule}", slices, "such slice")
    return blocks


def _ranked(made: Sequence[Made | None], rule: str, slices: Sequence[SliceScore], what: str) -> list[Block]:
    if made:
        return [Note(rule), *_overlays(made, {})]
    return [
        Note(
            f"There is no {what} among the {sum(one.true is not None for one in slices):,} slices whose "
            "truth is known."
        )
    ]


def _page_blocks(viewers: Sequence[Viewer], left_out: int, asked: Sequence[str]) -> list[Block]:
    if not viewers:
        return [Note(_NO_PIXELS, "missing")]
    text = (
        "The three worst and the two best scans by Dice (without truth, the largest and the "
        "smallest predictions; of a classifier, the first five), and those that were asked for "
        "with --scan ID. Move with the slider or the arrow keys."
    )
    blocks: list[Block] = [Note(text)]
    if left_out:
        blocks.append(
            Note(f"{left_out} pages did not fit into {PAGE_BUDGET / 1e6:g} MB and were left out.", "missing")
        )
    lacking = [scan_id for scan_id in asked if scan_id not in {one.title for one in viewers}]
    if lacking:
        blocks.append(Note("Asked for, but not shown: " + ", ".join(lacking) + ".", "missing"))
    return [*blocks, *viewers]
