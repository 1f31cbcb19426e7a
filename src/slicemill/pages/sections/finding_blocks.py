"""What ingest found beside the pixels: findings, quarantine and the clinical table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from slicemill.core.scans.scan import SEQUENCES
from slicemill.io.lake.rows import QuarantineRow, ScanRow
from slicemill.io.lake.tables import LakeTables
from slicemill.io.places import Lake
from slicemill.io.storage.uri import display
from slicemill.pages.sections.blocks import (
    Block,
    Cell,
    Heading,
    Note,
    TableBlock,
    TableColumn,
    number,
    words,
)

#: Quarantined files of each reason that are shown.
EXAMPLES = 3
#: Rows of a table of findings.
MAX_ROWS = 50
#: Clinical columns that are shown.
MAX_CLINICAL = 40
#: Values that a clinical column of few values is counted by.
_FEW = 10


def finding_blocks(lake: LakeTables) -> list[Block]:
    """Missing sequences by scan, and counts of everything else that ingest found."""
    return [
        Heading("Missing sequences and other findings"),
        _missing_sequences(lake.scans),
        *_doubts(lake.scans),
        _other_findings(lake),
    ]


def _missing_sequences(scans: Sequence[ScanRow]) -> Block:
    lacking = [scan for scan in scans if scan.missing_sequences]
    if not lacking:
        return Note("No scan lacks a sequence.")
    counts = Counter(name for scan in lacking for name in scan.missing_sequences)
    numbers = ", ".join(f"{name} in {counts[name]:,}" for name in SEQUENCES if counts[name])
    rows = tuple(
        (words(scan.scan_id), words(", ".join(scan.missing_sequences))) for scan in lacking[:MAX_ROWS]
    )
    caption = (
        f"{len(lacking):,} of {len(scans):,} scans hold FLAIR or one value in place of a sequence: {numbers}."
    )
    return TableBlock(
        "missing",
        caption,
        (TableColumn("Scan"), TableColumn("Missing sequences")),
        rows,
        more=_cut(len(lacking)),
    )


def _doubts(scans: Sequence[ScanRow]) -> list[Block]:
    """Implausible masks, saturation and lost contrast, by scan; nothing where there is none."""
    doubtful = [scan for scan in scans if scan.doubts]
    if not doubtful:
        return []
    rows = tuple((words(scan.scan_id), words("; ".join(scan.doubts or ()))) for scan in doubtful[:MAX_ROWS])
    caption = f"{len(doubtful):,} of {len(scans):,} scans have masks or grey values that should be looked at."
    columns = (TableColumn("Scan"), TableColumn("What is doubtful"))
    return [TableBlock("doubts", caption, columns, rows, more=_cut(len(doubtful)))]


def _other_findings(lake: LakeTables) -> TableBlock:
    scans = lake.scans
    shared = lake.totals.shared_images if lake.totals else ()
    counts = {
        "slices with a channel that repeats another": sum(scan.copied_channel_slices for scan in scans),
        "slices of one single value": sum(len(scan.blank_slices) for scan in scans),
        "slice numbers missing in between": sum(len(scan.slice_gaps) for scan in scans),
        "bad masks": sum(scan.rejected_masks for scan in scans),
        "groups of scans of different patients that share a slice, pixel for pixel": len(shared),
    }
    rows = tuple((words(name), number(count)) for name, count in counts.items())
    columns = (TableColumn("Finding"), TableColumn("Count", numeric=True))
    return TableBlock("findings", "Other findings over all scans.", columns, rows)


def _cut(count: int) -> str:
    return f"Shown are the first {MAX_ROWS} of {count:,}." if count > MAX_ROWS else ""


def quarantine_blocks(lake: LakeTables) -> list[Block]:
    """What was set aside, by reason, with a few examples of each."""
    heading = Heading("Quarantine")
    if not lake.quarantine:
        return [heading, Note("Nothing was set aside.")]
    by_reason: dict[str, list[QuarantineRow]] = {}
    for row in lake.quarantine:
        by_reason.setdefault(row.reason, []).append(row)
    ordered = sorted(by_reason.items(), key=lambda item: (-len(item[1]), item[0]))
    rows = tuple(cells for _, of_reason in ordered for cells in _examples(of_reason))
    names = ("Example", "What was wrong", "Found", "Expected")
    columns = (
        TableColumn("Reason"),
        TableColumn("Count", numeric=True),
        *(TableColumn(name, breakable=True) for name in names),
    )
    count = len(lake.quarantine)
    caption = f"{count:,} files or folders set aside, by reason, up to {EXAMPLES} examples of each."
    table = display(Lake(lake.home).quarantine)
    return [
        heading,
        TableBlock("quarantine", caption, columns, rows, more="All are in the lake's table: ", file=table),
    ]


def _examples(of_reason: Sequence[QuarantineRow]) -> Iterator[tuple[Cell, ...]]:
    for place, row in enumerate(of_reason[:EXAMPLES]):
        count = number(len(of_reason)) if place == 0 else words("")
        texts = (_short(row.uri), row.detail, row.found or "", row.expected or "")
        yield (words(row.reason), count, *(words(text) for text in texts))


def _short(uri: str) -> str:
    return "/".join(uri.rstrip("/").rsplit("/", 2)[-2:])


def clinical_blocks(lake: LakeTables) -> list[Block]:
    """A line per clinical column, over patients."""
    blocks: list[Block] = [Heading("Clinical table")]
    if not lake.clinical:
        return [*blocks, Note("No clinical table was joined (ingest --clinical).", "missing")]
    patients = len({scan.patient_id for scan in lake.scans})
    first = list(lake.clinical.items())[:MAX_CLINICAL]
    rows = tuple(_clinical_row(name, list(by_patient.values())) for name, by_patient in first)
    columns = (
        TableColumn("Column"),
        TableColumn("Known", "patients", numeric=True),
        TableColumn("Unknown", "patients", numeric=True),
        TableColumn("Values", breakable=True),
    )
    remark = (
        f"Shown are the first {MAX_CLINICAL} of {len(lake.clinical)} columns."
        if len(lake.clinical) > MAX_CLINICAL
        else ""
    )
    return [
        *blocks,
        TableBlock(
            "clinical",
            f"Clinical columns of {patients:,} patients, codes as in the table.",
            columns,
            rows,
            more=remark,
        ),
    ]


def _clinical_row(name: str, values: Sequence[Any]) -> tuple[Cell, ...]:
    present = [value for value in values if value is not None]
    return words(name), number(len(present)), number(len(values) - len(present)), words(_summary(present))


def _summary(values: Sequence[Any]) -> str:
    if not values:
        return "none known"
    counts: Mapping[Any, int] = Counter(values)
    if len(counts) > _FEW and all(isinstance(value, int | float) for value in counts):
        low, quarter, middle, upper, high = np.quantile(
            np.asarray(values, np.float64), [0, 0.25, 0.5, 0.75, 1]
        )
        return f"median {middle:g}, middle half {quarter:g} to {upper:g}, from {low:g} to {high:g}"
    common = sorted(counts.items(), key=lambda item: (-item[1], str(item[0])))
    text = ", ".join(f"{value}: {count:,}" for value, count in common[:_FEW])
    return text + (f", and {len(counts) - _FEW} more" if len(counts) > _FEW else "")
