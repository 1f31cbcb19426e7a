"""Are slices with tumour told apart from slices without? Counts, ROC and calibration."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from slicemill.core.evaluation.summary import slice_summary
from slicemill.report.figures import results as result_figures
from slicemill.report.figures.style import picture
from slicemill.report.sections.blocks import (
    Block,
    Chart,
    Charts,
    Column,
    Note,
    Table,
    Tile,
    Tiles,
    number,
    words,
)
from slicemill.report.selection import SliceScore, told_apart, truth_and_probability


@dataclass(frozen=True)
class _Counts:
    """Slices by truth and prediction."""

    hit: int
    missed: int
    alarm: int
    quiet: int

    @property
    def tumour(self) -> int:
        return self.hit + self.missed

    @property
    def healthy(self) -> int:
        return self.alarm + self.quiet


def detection_blocks(slices: Sequence[SliceScore], threshold: float | None) -> list[Block]:
    """Slices whose truth is known, counted by truth and prediction; curves where both kinds occur.

    `threshold` is a classifier's, None of a network that draws masks.
    """
    truth, found, peak = told_apart(slices)
    if not truth.size:
        text = (
            "Whether slices with and without tumour are told apart is not known: no slice has a truth here."
        )
        return [Note(text, "missing")]
    kinds = (truth & found, truth & ~found, ~truth & found, ~truth & ~found)
    counts = _Counts(*(int(np.count_nonzero(kind)) for kind in kinds))
    tiles = _tiles(counts) if threshold is None else (*_overall(slices, threshold), *_tiles(counts))
    blocks: list[Block] = [Tiles(tiles), _table(counts, threshold)]
    if counts.tumour and counts.healthy:
        used = counts.alarm / counts.healthy, counts.hit / counts.tumour
        curve = Chart(
            picture(result_figures.roc(truth, peak, used)),
            "ROC of the slices by their highest tumour probability.",
            "Curve of tumour slices found against false alarms.",
        )
        calibration = Chart(
            picture(result_figures.reliability(truth, peak)),
            "Calibration of the slices: how often a slice shows a tumour, by its highest probability, in ten "
            "bins (slices of a bin beside its point).",
            "Share of slices with tumour against their highest probability.",
        )
        blocks.append(Charts((curve, calibration)))
    return blocks


def _overall(slices: Sequence[SliceScore], threshold: float) -> Iterator[Tile]:
    found = slice_summary(truth_and_probability(slices), threshold)
    for key, name in (("slice_accuracy", "Slice accuracy"), ("slice_auroc", "Area under the ROC curve")):
        if found[key]:
            value, low, high = (found[key][part] for part in ("value", "low", "high"))
            yield Tile(name, f"{value:.3f}", f"95% interval {low:.3f} to {high:.3f}, over patients")


def _tiles(counts: _Counts) -> tuple[Tile, ...]:
    tiles = []
    if counts.tumour:
        share = f"{counts.hit / counts.tumour:.1%}"
        tiles.append(Tile("Tumour slices found", share, f"{counts.hit:,} of {counts.tumour:,}"))
    if counts.healthy:
        share = f"{counts.alarm / counts.healthy:.1%}"
        detail = f"{counts.alarm:,} of {counts.healthy:,} slices without tumour"
        tiles.append(Tile("False alarms", share, detail))
    return tuple(tiles)


def _table(counts: _Counts, threshold: float | None) -> Table:
    columns = (
        Column("Truth"),
        Column("Tumour predicted", "slices", numeric=True),
        Column("None predicted", "slices", numeric=True),
    )
    rows = (
        (words("Tumour"), number(counts.hit), number(counts.missed)),
        (words("No tumour"), number(counts.alarm), number(counts.quiet)),
    )
    rule = (
        "if its mask holds a single pixel" if threshold is None else f"from a probability of {threshold:g} on"
    )
    caption = f"Slices by truth and prediction: a slice counts as predicted {rule}."
    return Table("confusion", caption, columns, rows)
