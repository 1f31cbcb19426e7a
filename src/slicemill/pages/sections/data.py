"""The data: what is in the lake, and what is not."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from slicemill.io.lake.rows import ScanRow
from slicemill.io.lake.splits import Split
from slicemill.io.lake.tables import LakeTables, LakeTotals
from slicemill.io.results import Results
from slicemill.pages.figures import data as data_figures
from slicemill.pages.figures.charts import count_histogram, group_caption, grouped, share_bars
from slicemill.pages.figures.style import picture
from slicemill.pages.sections.blocks import (
    NONE,
    Block,
    Cell,
    Chart,
    Charts,
    Heading,
    Note,
    Section,
    TableBlock,
    TableColumn,
    Tile,
    Tiles,
    number,
    words,
)
from slicemill.pages.sections.finding_blocks import clinical_blocks, finding_blocks, quarantine_blocks

#: Splits that are shown.
MAX_SPLITS = 4
_PART_ORDER = {"train": 0, "val": 1, "test": 2}


def data_section(results: Results) -> Section:
    """Counts, grey values, tumours, splits, findings, quarantine and clinical columns of the lake."""
    if results.lake is None:
        blocks: list[Block] = [Note("No lake was given (--lake), so the data is not shown.", "missing")]
    elif not results.lake.scans:
        blocks = [Note("The lake holds no scan.", "missing"), *quarantine_blocks(results.lake)]
    else:
        lake = results.lake
        blocks = [
            _counts(lake),
            *_charts(lake),
            *_splits(lake, results.split),
            *finding_blocks(lake),
            *quarantine_blocks(lake),
            *clinical_blocks(lake),
        ]
    return Section("data", "Data", tuple(blocks))


def _counts(lake: LakeTables) -> Block:
    scans = lake.scans
    slices = sum(scan.slices for scan in scans)
    tumour, labelled = _tumour_of_labelled(scans)
    voxels = sum(scan.labelled_slices * scan.height * scan.width for scan in scans)
    tiles = [
        Tile(
            "Patients",
            f"{len({scan.patient_id for scan in scans}):,}",
            f"{len({scan.institution for scan in scans}):,} institutions",
        ),
        Tile("Scans", f"{len(scans):,}"),
        Tile("Slices", f"{slices:,}", f"{labelled:,} with a mask"),
        Tile(
            "Slices with tumour",
            f"{tumour:,}",
            f"{tumour / labelled:.1%} of those with a mask" if labelled else "no masks",
        ),
        Tile(
            "Tumour voxels",
            f"{sum(scan.tumour_pixels for scan in scans) / voxels:.2%}" if voxels else NONE,
            "of slices with a mask",
        ),
        Tile("Set aside", f"{len(lake.quarantine):,}", "files or folders in quarantine"),
    ]
    return Tiles(tuple(tiles))


def _charts(lake: LakeTables) -> list[Block]:
    scans, totals = lake.scans, lake.totals
    labelled = [scan for scan in scans if scan.labelled_slices]
    charts = [_statistics_chart(scans, statistic) for statistic in data_figures.SCAN_STATISTICS]
    if totals and totals.channels:
        charts.append(_grey_chart(totals))
    charts.append(_slices_chart(scans))
    if labelled:
        charts.append(_share_chart(labelled))
    if labelled and totals and np.any(totals.heat_map):
        charts.append(_heat_chart(totals))
    blocks: list[Block] = [Charts(tuple(charts))]
    if not labelled:
        text = "No scan of the lake has masks, so the page has neither tumour shares nor a heat map."
        blocks.append(Note(text, "missing"))
    if totals is None:
        text = "The lake has no published totals (profile.json): grey values and heat map are missing."
        blocks.append(Note(f"{text} Run ingest again.", "missing"))
    return blocks


def _statistics_chart(scans: Sequence[ScanRow], statistic: str) -> Chart:
    name = data_figures.SCAN_STATISTICS[statistic]
    figure = data_figures.scan_statistic(scans, statistic)
    return Chart(picture(figure), f"{name}, by channel.", f"Histogram: {name.lower()}, a line per channel.")


def _grey_chart(totals: LakeTotals) -> Chart:
    return Chart(
        picture(data_figures.grey_values(totals.channels)),
        "Grey values of all pixels, by channel.",
        "Logarithmic histogram of 256 grey values, a line per channel.",
    )


def _slices_chart(scans: Sequence[ScanRow]) -> Chart:
    figure = count_histogram([scan.slices for scan in scans], "Slices of a scan", "scans")
    return Chart(picture(figure), "Slices of a scan.", "Histogram of the number of slices.")


def _share_chart(labelled: Sequence[ScanRow]) -> Chart:
    shares: dict[str, list[float]] = {}
    for scan in labelled:
        shares.setdefault(scan.institution or "unknown", []).append(scan.tumour_fraction)
    return Chart(
        picture(grouped(shares, "Slices of a scan that show a tumour (share)", (-0.02, 1.02))),
        group_caption("Tumour share by institution", shares),
        "Tumour share of each scan by institution.",
    )


def _heat_chart(totals: LakeTotals) -> Chart:
    return Chart(
        picture(data_figures.heat_map(totals.heat_map)),
        "Where the tumours lie, over all slices, rows from the top.",
        "Heat map of tumour pixels over the slice.",
    )


def _splits(lake: LakeTables, trained_on: Split | None) -> list[Block]:
    """The split that the run was trained on, then others by name."""
    heading = Heading("Splits")
    if not lake.splits:
        return [heading, Note("The lake has no split yet.", "missing")]
    splits = sorted(lake.splits, key=lambda split: split is not trained_on)
    blocks: list[Block] = [heading]
    for split in splits[:MAX_SPLITS]:
        blocks += _split(lake, split)
    if len(splits) > MAX_SPLITS:
        further = ", ".join(split.name for split in splits[MAX_SPLITS:])
        blocks.append(Note(f"Not shown: {further}."))
    return blocks


def _split(lake: LakeTables, split: Split) -> list[Block]:
    groups: dict[str, list[ScanRow]] = {}
    for scan in lake.scans:
        groups.setdefault(split.assigned.get(scan.patient_id, "in no part"), []).append(scan)
    parts = sorted(groups, key=lambda part: (_PART_ORDER.get(part, len(_PART_ORDER)), part))
    numbers = ("Patients", "Scans", "Slices", "Slices with tumour", "Tumour share")
    columns = (TableColumn("Part"), *(TableColumn(name, numeric=True) for name in numbers))
    method = f"by {split.card.get('method')}, seed {split.card.get('seed')}"
    caption = f"Split {split.name}, {method}: no patient is in two parts."
    rows = tuple(_part(part, groups[part]) for part in parts)
    table = TableBlock(f"split-{split.name}", caption, columns, rows)
    counts = {part: _tumour_of_labelled(groups[part]) for part in parts}
    if not any(labelled for _, labelled in counts.values()):
        return [table]
    figure = share_bars(counts, "Slices that show a tumour (share of those with a mask)")
    caption = f"Tumour share by part of split {split.name}."
    return [table, Charts((Chart(picture(figure), caption, "A bar per part of the split."),))]


def _tumour_of_labelled(scans: Sequence[ScanRow]) -> tuple[int, int]:
    return sum(scan.tumour_slices for scan in scans), sum(scan.labelled_slices for scan in scans)


def _part(part: str, scans: Sequence[ScanRow]) -> tuple[Cell, ...]:
    tumour, labelled = _tumour_of_labelled(scans)
    patients = len({scan.patient_id for scan in scans})
    share = 100 * tumour / labelled if labelled else None
    return (
        words(part),
        number(patients),
        number(len(scans)),
        number(sum(scan.slices for scan in scans)),
        number(tumour),
        number(share, 1, "%"),
    )
