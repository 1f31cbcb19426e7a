"""Are tumours detected, slice by slice? Counts, ROC and calibration."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from slicemill.core.evaluation.summary import slice_summary
from slicemill.io.scores.results import SliceScore
from slicemill.pages.figures import results as result_figures
from slicemill.pages.figures.style import picture
from slicemill.pages.sections.blocks import (
    Block,
    Chart,
    Charts,
    Note,
    TableBlock,
    TableColumn,
    Tile,
    Tiles,
    number,
    words,
)
from slicemill.pages.selection import Detection, detection, truth_and_probability


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
    labelled = detection(slices)
    if not labelled.tumour.size:
        text = "No slice here has a truth, so it is not known whether tumours are detected."
        return [Note(text, "missing")]
    counts = _counts(labelled)
    # A classifier's numbers are in the result, which the page begins with.
    tiles = [Tiles(tuple(_rates(counts)))] if threshold is None else []
    return [*tiles, _table(counts, threshold), *_curves(labelled)]


def classifier_tiles(slices: Sequence[SliceScore], threshold: float) -> list[Tile]:
    """A classifier's numbers over slices whose truth is known; none without such slices."""
    labelled = detection(slices)
    if not labelled.tumour.size:
        return []
    return [*_overall(slices, threshold), *_rates(_counts(labelled))]


def _counts(labelled: Detection) -> _Counts:
    truth, positive = labelled.tumour, labelled.positive
    kinds = (truth & positive, truth & ~positive, ~truth & positive, ~truth & ~positive)
    return _Counts(*(int(np.count_nonzero(kind)) for kind in kinds))


def _curves(labelled: Detection) -> Iterator[Block]:
    rates = labelled.rates
    if rates is None:
        return
    roc = Chart(
        picture(result_figures.roc(labelled.tumour, labelled.probability, rates)),
        "ROC of the slices by their highest tumour probability.",
        "Curve of detected tumour slices against false alarms.",
    )
    calibration = Chart(
        picture(result_figures.reliability(labelled.tumour, labelled.probability)),
        "Calibration of the slices: how often a slice shows a tumour, by its highest probability, in ten "
        "bins (slices of a bin beside its point).",
        "Share of slices with tumour against their highest probability.",
    )
    yield Charts((roc, calibration))


def _overall(slices: Sequence[SliceScore], threshold: float) -> Iterator[Tile]:
    summary = slice_summary(truth_and_probability(slices), threshold)
    intervals = (
        ("Slice accuracy", summary.slice_accuracy),
        ("Area under the ROC curve", summary.slice_auroc),
    )
    for name, interval in intervals:
        if interval:
            yield Tile(name, f"{interval.value:.3f}", f"{interval.ends(3)}, over patients")


def _rates(counts: _Counts) -> Iterator[Tile]:
    if counts.tumour:
        share = f"{counts.hit / counts.tumour:.1%}"
        yield Tile("Tumour slices detected", share, f"{counts.hit:,} of {counts.tumour:,}")
    if counts.healthy:
        share = f"{counts.alarm / counts.healthy:.1%}"
        detail = f"{counts.alarm:,} of {counts.healthy:,} slices without tumour"
        yield Tile("False alarms", share, detail)


def _table(counts: _Counts, threshold: float | None) -> TableBlock:
    columns = (
        TableColumn("Truth"),
        TableColumn("Tumour predicted", "slices", numeric=True),
        TableColumn("None predicted", "slices", numeric=True),
    )
    rows = (
        (words("Tumour"), number(counts.hit), number(counts.missed)),
        (words("No tumour"), number(counts.alarm), number(counts.quiet)),
    )
    rule = (
        "if its mask holds a single pixel" if threshold is None else f"from a probability of {threshold:g} on"
    )
    caption = f"Slices by truth and prediction: a slice counts as predicted {rule}."
    return TableBlock("confusion", caption, columns, rows)
