"""Which scans the first numbers of a result are of, and what must be said of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from slicemill.core.evaluation.rows import ScanScore
from slicemill.core.scans.patients import identify
from slicemill.io.results import Results

#: Parts of a split that a model has seen.
_SEEN = ("train", "val")


@dataclass(frozen=True)
class Headline:
    """Scored scans that the first numbers are of; the sentence says whether the model has seen patients."""

    scans: tuple[ScanScore, ...]
    sentence: str
    warning: bool = False


def parts_of_scores(results: Results) -> Mapping[str, str]:
    """Part of the split by patient, for the model that made the scores; empty where it is not known."""
    card = results.run.card if results.run else None
    if card is None or results.scores is None or card.model_id != results.scores.model_id:
        return {}
    return results.parts


def headline(results: Results) -> Headline:
    """The scans of patients that the model never saw, where that is known; else all of them."""
    rows = results.scores.scans if results.scores else ()
    parts = parts_of_scores(results)
    if not parts and all(row.seen is None for row in rows):
        return Headline(
            rows,
            "It is not known here which of these patients the model was trained on: name the lake and the "
            "run of the same model to find out.",
        )
    unseen = tuple(row for row in rows if not _was_seen(row, parts))
    if len(unseen) == len(rows):
        return Headline(rows, "The model was trained and chosen on none of these patients.")
    if not unseen:
        sentence = (
            "The model was trained or chosen on every one of these patients: these numbers say nothing about "
            "new patients."
        )
        return Headline(rows, sentence, warning=True)
    sentence = (
        f"{len(rows) - len(unseen)} of {len(rows)} scans are of patients that the model was trained or "
        "chosen on. The numbers and figures leave them out; the table shows them."
    )
    return Headline(unseen, sentence, warning=True)


def _was_seen(row: ScanScore, parts: Mapping[str, str]) -> bool:
    """By what scoring wrote down; of scores of an earlier release by the split."""
    return parts.get(row.patient_id) in _SEEN if row.seen is None else row.seen


def institutions(results: Results, rows: Sequence[ScanScore]) -> dict[str, str]:
    """Institution by scan id: from the lake where it holds the scan, else from the scan's name."""
    stored = {scan.scan_id: scan.institution for scan in results.lake.scans} if results.lake else {}
    return {row.scan_id: stored.get(row.scan_id) or _named_institution(results, row) for row in rows}


def _named_institution(results: Results, row: ScanScore) -> str:
    return identify(row.scan_id, results.scan_pattern, {}).institution or "unknown"
