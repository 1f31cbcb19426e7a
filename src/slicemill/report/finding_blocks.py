"""What ingest found beside the pixels: findings, quarantine and the clinical table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from slicemill.core.scan import SEQUENCES
from slicemill.io import lake
from slicemill.io.uri import display
from slicemill.report.blocks import Block, Column, Heading, Note, Table, number, words
from slicemill.report.inputs import LakeInput, Row

#: Quarantined files of each reason that are shown.
EXAMPLES = 3
#: Rows of a table of findings.
MAX_ROWS = 50
#: Clinical columns that are shown.
MAX_CLINICAL = 40
#: Values that a clinical column of few values is counted by.
_FEW = 10


def finding_blocks(there: LakeInput) -> list[Block]:
    """Missing sequences by scan, and counts of everything else that ingest found."""
    blocks: list[Block] = [Heading("Missing sequences and other findings")]
    lacking = [scan for scan in there.scans if scan["missing_sequences"]]
    if lacking:
        counts = Counter(name for scan in lacking for name in scan["missing_sequences"])
        said = ", ".join(f"{name} in {counts[name]:,}" for name in SEQUENCES if counts[name])
        rows = tuple(
            (words(scan["scan_id"]), words(", ".join(scan["missing_sequences"])))
            for scan in lacking[:MAX_ROWS]
        )
        caption = (
            f"{len(lacking):,} of {len(there.scans):,} scans repeat FLAIR in place of a sequence: {said}."
        )
        blocks.append(
            Table(
                "missing",
                caption,
                (Column("Scan"), Column("Missing sequences")),
                rows,
                more=_cut(len(lacking)),
            )
        )
    else:
        blocks.append(Note("No scan lacks a sequence."))
    named = {
        "slices with a channel that repeats another": sum(
            scan["copied_channel_slices"] for scan in there.scans
        ),
        "slices of one single value": sum(len(scan["blank_slices"]) for scan in there.scans),
        "slice numbers missing in between": sum(len(scan["slice_gaps"]) for scan in there.scans),
        "bad masks": sum(scan["rejected_masks"] for scan in there.scans),
    }
    shared = (there.totals or {}).get("findings", {}).get("equal_images_across_patients", [])
    named["groups of scans of different patients that share a slice, pixel for pixel"] = len(shared)
    blocks.append(
        Table(
            "findings",
            "Other findings over all scans.",
            (Column("Finding"), Column("Count", numeric=True)),
            tuple((words(name), number(count)) for name, count in named.items()),
        )
    )
    return blocks


def _cut(count: int) -> str:
    return f"Shown are the first {MAX_ROWS} of {count:,}." if count > MAX_ROWS else ""


def quarantine_blocks(there: LakeInput) -> list[Block]:
    """What was set aside, by reason, with a few examples of each."""
    blocks: list[Block] = [Heading("Quarantine")]
    if not there.quarantine:
        return [*blocks, Note("Nothing was set aside.")]
    by_reason: dict[str, list[Row]] = {}
    for row in there.quarantine:
        by_reason.setdefault(row["reason"], []).append(row)
    rows = []
    for reason, found in sorted(by_reason.items(), key=lambda item: (-len(item[1]), item[0])):
        for place, row in enumerate(found[:EXAMPLES]):
            count = number(len(found)) if place == 0 else words("")
            rows.append(
                (
                    words(reason),
                    count,
                    words(_short(row["uri"])),
                    words(row["detail"]),
                    words(row["found"] or ""),
                    words(row["expected"] or ""),
                )
            )
    columns = (
        Column("Reason"),
        Column("Count", numeric=True),
        Column("Example"),
        Column("What was wrong"),
        Column("Found"),
        Column("Expected"),
    )
    caption = (
        f"{len(there.quarantine):,} files or folders set aside, by reason, up to {EXAMPLES} examples of each."
    )
    return [
        *blocks,
        Table(
            "quarantine",
            caption,
            columns,
            tuple(rows),
            more="All are in the lake's table: ",
            file=display(lake.quarantine(there.home)),
        ),
    ]


def _short(uri: str) -> str:
    return "/".join(uri.rstrip("/").rsplit("/", 2)[-2:])


def clinical_blocks(there: LakeInput) -> list[Block]:
    """A line per clinical column, over patients."""
    blocks: list[Block] = [Heading("Clinical table")]
    if not there.clinical:
        return [*blocks, Note("No clinical table was joined (ingest --clinical).", "missing")]
    patients = {scan["patient_id"]: scan for scan in there.scans}
    rows = []
    for name in there.clinical[:MAX_CLINICAL]:
        values = [scan[name] for scan in patients.values() if scan[name] is not None]
        rows.append(
            (words(name), number(len(values)), number(len(patients) - len(values)), words(_summary(values)))
        )
    columns = (
        Column("Column"),
        Column("Known", "patients", numeric=True),
        Column("Unknown", "patients", numeric=True),
        Column("Values"),
    )
    more = (
        f"Shown are the first {MAX_CLINICAL} of {len(there.clinical)} columns."
        if len(there.clinical) > MAX_CLINICAL
        else ""
    )
    return [
        *blocks,
        Table(
            "clinical",
            f"Clinical columns of {len(patients):,} patients, codes as in the table.",
            columns,
            tuple(rows),
            more=more,
        ),
    ]


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
    listed = ", ".join(f"{value}: {count:,}" for value, count in common[:_FEW])
    return listed + (f", and {len(counts) - _FEW} more" if len(counts) > _FEW else "")
