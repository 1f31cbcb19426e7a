"""What a scoring run says of itself: its counts and headline, and the evaluation as summary.json has it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from slicemill.config import ScoreConfig
from slicemill.core.evaluation.document import document
from slicemill.core.evaluation.intervals import Interval
from slicemill.core.evaluation.rows import ScanScore
from slicemill.core.profiles.channel_order import channel_order_doubt
from slicemill.core.results.nights import channel_statistics
from slicemill.experiments.evaluate import Comparison, Evaluation
from slicemill.io.places import Scores
from slicemill.io.run.card import Card
from slicemill.io.scores.scope import Scope
from slicemill.io.scores.source import CHANGED, FAILED, SCORED
from slicemill.io.storage.uri import canonical, display

#: Scans that a summary names; the log names all.
_NAMED = 20


@dataclass(frozen=True)
class ScoreResults:
    """What a run left: rows of its scans in the patients table, what became of the new ones, and the time."""

    scope: Scope
    rows: Sequence[ScanScore]
    states: Mapping[str, str]
    seconds: float

    @property
    def failed(self) -> list[str]:
        """Scans that could not be read or written."""
        return sorted(scan_id for scan_id, state in self.states.items() if state == FAILED)

    @property
    def slices_per_second(self) -> float | None:
        """Of the new scans; None without any."""
        scored = [row.slices for row in self.rows if self.states.get(row.scan_id) == SCORED]
        return round(sum(scored) / self.seconds, 2) if scored else None


def score_counts(config: ScoreConfig, results: ScoreResults, card: Card) -> dict[str, Any]:
    """What the summary line counts, and its status."""
    rows, scope, failed = results.rows, results.scope, results.failed
    quarantined = sum(row.quarantined for row in rows)
    states = Counter(results.states.values())
    new = [row for row in rows if results.states.get(row.scan_id) == SCORED]
    status = "data_short" if quarantined > config.max_bad_fraction * scope.files else "done"
    failed_names = ", ".join(failed[:_NAMED])
    return {
        "job": "score",
        "status": "failed" if failed else status,
        **({"error": f"could not be read or written: {failed_names}; see standard error"} if failed else {}),
        "scans": len(scope.tasks) + scope.waiting,
        "slices": sum(row.slices for row in rows),
        "scored": sum(bool(row.slices) for row in new),
        "set_aside": sum(not row.slices for row in rows),
        "skipped_done": len(scope.tasks) - len(results.states),
        "waiting": scope.waiting,
        "changed_while_read": states[CHANGED],
        "failed": len(failed),
        "quarantined": quarantined,
        "scans_with_warnings": sum(bool(row.warnings) for row in rows),
        "scans_to_look_at_first": sum(bool(row.look_first) for row in rows),
        # Scans stay in their folders: only what came since the last run can say that something has changed.
        "new_scans_with_warnings": sum(bool(row.warnings) for row in new),
        "new_scans_to_look_at_first": sum(bool(row.look_first) for row in new),
        "channel_order": channel_order_doubt(channel_statistics(rows), card.training_profile),
        "slices_per_second": results.slices_per_second,
        "model_id": card.model_id,
        "engines": sorted({row.engine for row in rows if row.engine}),
        **({"members": len(card.members)} if card.members else {}),
        "patients_csv": display(Scores(canonical(config.out)).patients_csv),
    }


def engines(rows: Sequence[ScanScore]) -> list[dict[str, Any]]:
    """Which engines scored how many scans, and how far they are from torch."""
    counts = Counter((row.engine, row.engine_difference, row.engine_mask_share) for row in rows)
    return [
        {
            "engine": engine,
            "largest_difference": difference,
            "mask_share": share,
            "scans": count,
        }
        for (engine, difference, share), count in counts.most_common()
    ]


def evaluation_document(evaluation: Evaluation) -> dict[str, Any]:
    """The evaluation as summary.json has it: the numbers of unseen patients first, the others apart."""
    stored: dict[str, Any] = document(evaluation.unseen)
    if evaluation.slices:
        stored |= document(evaluation.slices)
    return stored | {"seen_known": evaluation.seen_known, "seen": document(evaluation.seen)}


def comparison_document(comparison: Comparison) -> dict[str, Any]:
    """A comparison as summary.json and the summary line have it."""
    return {
        "with": comparison.other,
        "model_id": comparison.model_id,
        "scans": comparison.scans,
        **document(comparison.difference),
    }


def score_headline(evaluation: Evaluation, comparison: Comparison | None) -> dict[str, Any]:
    """The numbers of the evaluation that the summary line shows: of patients that the model has not seen."""
    unseen, seen, slices = evaluation.unseen, evaluation.seen, evaluation.slices
    mean = unseen.mean_patient_dice
    headline: dict[str, Any] = {
        "mean_patient_dice": _value(mean),
        "median_patient_dice": _value(unseen.median_patient_dice),
        "partly_labelled_scans": unseen.partly_labelled_scans,
    }
    if mean and mean.low is not None:
        headline["mean_patient_dice_interval"] = [mean.low, mean.high]
    if slices:
        headline |= {
            "slice_accuracy": _value(slices.slice_accuracy),
            "slice_auroc": _value(slices.slice_auroc),
        }
    headline["seen_scans"] = seen.scans if seen else (0 if evaluation.seen_known else None)
    if seen:
        headline["mean_patient_dice_of_seen"] = _value(seen.mean_patient_dice)
    if comparison:
        headline["comparison"] = comparison_document(comparison)
    return headline


def score_numbers(evaluation: Evaluation) -> dict[str, float | None]:
    """The numbers of unseen patients that a tracker keeps, by name."""
    unseen, slices = evaluation.unseen, evaluation.slices
    numbers = {
        "mean_patient_dice": _value(unseen.mean_patient_dice),
        "median_patient_dice": _value(unseen.median_patient_dice),
    }
    if slices:
        numbers |= {
            "slice_accuracy": _value(slices.slice_accuracy),
            "slice_auroc": _value(slices.slice_auroc),
        }
    return numbers


def _value(interval: Interval | None) -> float | None:
    return interval and interval.value
