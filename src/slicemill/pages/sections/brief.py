"""The first lines of a report: what a clinician, a data engineer and a researcher each want to know."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from slicemill.core.evaluation.intervals import mean_interval
from slicemill.core.evaluation.rows import ScanScore
from slicemill.core.evaluation.summary import patient_means, slice_summary
from slicemill.io.lake.tables import LakeTables
from slicemill.io.results import Results
from slicemill.pages.evidence import Evidence
from slicemill.pages.sections.blocks import Block, Brief, BriefLine, Section
from slicemill.pages.selection import detection, truth_and_probability


def brief_section(results: Results, evidence: Evidence | None) -> Section:
    """A few sentences for each kind of reader; whoever finds nothing here gets no line."""
    lines = [
        BriefLine("For a clinician", " ".join(_clinician(evidence))),
        BriefLine("For a data engineer", " ".join(_engineer(results))),
        BriefLine("For a researcher", " ".join(_researcher(results, evidence))),
    ]
    blocks: tuple[Block, ...] = (Brief(tuple(line for line in lines if line.text)),)
    return Section("brief", "In short", blocks if any(line.text for line in lines) else ())


def _clinician(evidence: Evidence | None) -> Iterator[str]:
    if evidence is None:
        return
    if evidence.threshold is not None:
        yield from _flagged_slices(evidence)
    else:
        yield from _drawn_masks(evidence.headline.scans)
        yield from _first_looks(evidence.headline.scans)
    yield "Not for diagnosis."


def _flagged_slices(evidence: Evidence) -> Iterator[str]:
    rates = detection(evidence.slices).rates
    if rates is None:
        yield "Whether the model finds tumours is not known: there is no truth with and without one."
        return
    alarms, hits = rates
    yield f"Of 100 slices that show a tumour the model flags {100 * hits:.0f};"
    yield f"of 100 without one it flags {100 * alarms:.0f}."


def _drawn_masks(rows: Sequence[ScanScore]) -> Iterator[str]:
    dice = patient_means(rows)
    if not dice:
        tumours = sum(bool(row.predicted_volume) for row in rows)
        yield f"A tumour was predicted in {tumours:,} of {len(rows):,} scans."
        yield "There is no truth to compare with."
        return
    mean = mean_interval(list(dice.values()))
    yield f"Over {len(dice):,} patients the predicted masks reach a mean Dice of {mean.value:.2f}"
    yield f"({mean.ends(2)}); 1 is a perfect match."
    judged = [row for row in rows if row.dice is not None]
    sick = [row for row in judged if row.true_volume]
    missed_scans = sum(not row.predicted_volume for row in sick)
    yield f"The tumour was missed altogether in {missed_scans:,} of {len(sick):,} scans that have one."
    healthy = len(judged) - len(sick)
    if healthy:
        alarms = sum(bool(row.predicted_volume) for row in judged if not row.true_volume)
        yield f"A tumour was predicted in {alarms:,} of {healthy:,} scans that have none."


def _first_looks(rows: Sequence[ScanScore]) -> Iterator[str]:
    judged = [row for row in rows if row.look_first is not None]
    if judged:
        urgent = sum(bool(row.look_first) for row in judged)
        yield f"{urgent:,} of {len(judged):,} scans should be looked at first; the table says why."


def _engineer(results: Results) -> Iterator[str]:
    if results.lake is not None:
        yield from _lake_sentences(results.lake)
    if results.scores is not None and results.scores.scans:
        rows = results.scores.scans
        yield f"{len(rows):,} scans were scored, {sum(bool(row.warnings) for row in rows):,} with a warning;"
        yield f"{sum(row.quarantined for row in rows):,} of their files were set aside."


def _lake_sentences(lake: LakeTables) -> Iterator[str]:
    slices = sum(scan.slices for scan in lake.scans)
    labelled = sum(scan.labelled_slices for scan in lake.scans)
    patients = len({scan.patient_id for scan in lake.scans})
    yield f"The lake holds {len(lake.scans):,} scans of {patients:,} patients, {slices:,} slices,"
    yield (
        f"{slices - labelled:,} of them without a usable mask."
        if labelled < slices
        else "all with a usable mask."
    )
    if lake.quarantine:
        ((reason, count),) = Counter(row.reason for row in lake.quarantine).most_common(1)
        yield f"{len(lake.quarantine):,} files or folders were set aside, most often {reason} ({count:,})."
    else:
        yield "Nothing was set aside."


def _researcher(results: Results, evidence: Evidence | None) -> Iterator[str]:
    card = results.run.card if results.run else None
    if card is not None:
        size = f"{card.input_size} by {card.input_size} pixels"
        yield f"Model {card.model_id}: {card.architecture}, {size}, trained on split {card.split}."
    if evidence is None:
        return
    yield evidence.headline.sentence
    if evidence.threshold is not None:
        summary = slice_summary(truth_and_probability(evidence.slices), evidence.threshold)
        if summary.slice_auroc is not None:
            yield f"Slice AUROC {summary.slice_auroc.value:.3f} ({summary.slice_auroc.ends(3)})."
        return
    means = list(patient_means(evidence.headline.scans, "slice_mean_dice").values())
    if means:
        slice_mean = mean_interval(means)
        yield f"Slice-mean Dice {slice_mean.value:.3f} ({slice_mean.ends(3)}), for comparison with others."
