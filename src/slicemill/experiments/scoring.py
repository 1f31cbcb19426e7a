"""A scoring run: find the scans, score what is missing, publish and evaluate."""

from __future__ import annotations

import dataclasses
import logging
import time
import uuid
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from slicemill.config import ScoreConfig
from slicemill.core.evaluation.document import document
from slicemill.core.evaluation.intervals import Interval
from slicemill.core.evaluation.options import PredictionOptions
from slicemill.core.evaluation.rows import ScanScore
from slicemill.core.splits import refuse_leaky
from slicemill.errors import InputError
from slicemill.experiments.evaluate import Comparison, Evaluation, compare, evaluate
from slicemill.experiments.facts import model_facts, scoring_speed
from slicemill.io import storage
from slicemill.io.lake.splits import read_split
from slicemill.io.places import Scores
from slicemill.io.run.card import Card, load_card
from slicemill.io.scores.folder import claim
from slicemill.io.scores.scope import Scope, lake_scope, raw_scope
from slicemill.io.scores.source import ScoreTask
from slicemill.io.scores.tables import entries, publish
from slicemill.io.scores.writer import ScoreWriter
from slicemill.io.storage.commits import Commit, by_scan
from slicemill.io.storage.lock import sole_writer
from slicemill.io.storage.uri import canonical, display
from slicemill.model.predicting.settings import ScoreSettings, loaded
from slicemill.schemas import SCHEMA_VERSION
from slicemill.spark.score import CHANGED, FAILED, SCORED, score_scans
from slicemill.spark.session import Session, cores
from slicemill.types import Uri

log = logging.getLogger(__name__)

#: Scans that a summary names; the log names all.
_NAMED = 20


@dataclass(frozen=True)
class _Results:
    """What a run left: rows of its scans in the patients table, what became of the new ones, and the time."""

    scope: Scope
    rows: Sequence[ScanScore]
    states: Mapping[str, str]
    seconds: float

    @property
    def failed(self) -> list[str]:
        return sorted(scan_id for scan_id, state in self.states.items() if state == FAILED)

    @property
    def slices_per_second(self) -> float | None:
        scored = [row.slices for row in self.rows if self.states.get(row.scan_id) == SCORED]
        return round(sum(scored) / self.seconds, 2) if scored else None


def score(config: ScoreConfig, spark: Session, *, leaky: bool = False) -> dict[str, Any]:
    """Score what has no manifest entry yet and return the summary.

    `leaky` is for the measurement of the leak, which alone scores with a model of a split that leaks on
    purpose, and all patients of the split at that. Raises ModelFileError for a model that can't be trusted,
    InputError or ConfigError for wrong input.
    """
    home, model = canonical(config.out), canonical(config.model or "")
    card = load_card(model)
    if not leaky:
        refuse_leaky(card.split, "--model")
    settings = score_settings(config, model, card, spark)
    # Here and once: a bad weights file is one clear line, not a lost task on every worker. A driver may have
    # no GPU.
    loaded(dataclasses.replace(settings, device="cpu", precision="fp32", threads=None))
    if not card.training_profile:
        log.warning("the model card has no training profile: scans can't be compared with the training scans")
    scope = _scope(config, settings, card, leaky)
    job_id = f"score-{uuid.uuid4().hex[:12]}"
    with sole_writer(home, job_id) as fence:
        suffix = claim(home, card.model_id)
        writer = ScoreWriter(fence, f"masks{suffix}", card.model_id, job_id)
        new = _new_tasks(home, scope, card)
        start = time.monotonic()
        states = score_scans(spark, new, settings, writer, config.max_pixels)
        seconds = time.monotonic() - start
        fence.check()
        results = _Results(scope, _own_rows(scope, publish(home), card), states, seconds)
        # Of new folders the old are not read again, so a classifier is judged on splits only.
        classifier = card.task == "classify" and config.lake is not None
        evaluation = evaluate(home, results.rows, settings.threshold, classifier=classifier)
        comparison = compare(home, results.rows, config.compare_with) if config.compare_with else None
        stored = {
            "schema_version": SCHEMA_VERSION,
            "model_id": card.model_id,
            "threshold": settings.threshold,
            "options": list(settings.options.names),
            "split": config.split,
            "part": config.part if config.split else None,
            **_evaluation_document(evaluation),
            "comparison": comparison and _comparison_document(comparison),
            "model": model_facts(model, card),
            "slices_per_second": results.slices_per_second or scoring_speed(home, suffix),
        }
        storage.write_json(Scores(home).summary(suffix), stored)
    return _counts(config, results, card) | _headline(evaluation, comparison)


def score_settings(config: ScoreConfig, model: Uri, card: Card, spark: Session) -> ScoreSettings:
    """How this run scores: what the configuration leaves open the card decides."""
    slots = int(spark.conf.get("spark.task.cpus", "1") or 1)
    options = PredictionOptions.from_names(card.options).overruled(
        flips=_asked(config.tta, "flips"),
        smooth_slices=_asked(config.smoothing, "slices"),
        largest_component=_asked(config.components, "largest"),
    )
    return ScoreSettings(
        model=model,
        model_id=card.model_id,
        threshold=config.threshold if config.threshold is not None else card.threshold,
        options=options,
        device=config.device,
        precision=config.precision,
        threads=slots if cores(spark) > 1 else None,
        batch_size=config.batch_size,
    )


def _asked(value: str, on: str) -> bool | None:
    return None if value == "auto" else value == on


def _scope(config: ScoreConfig, settings: ScoreSettings, card: Card, leaky: bool) -> Scope:
    if config.raw:
        return raw_scope(config, settings.entry_key)
    home = canonical(config.lake or "")
    split = read_split(home, config.split or "")
    if card.members and split.folds is not None and split.hash == card.split_hash:
        raise InputError(
            "the committee's members were trained on the other folds, so that together they have seen all",
            expected="patients of another split, or new scans by --raw",
            found=f"{split.name}, {config.part}",
        )
    return lake_scope(
        home, split.assigned.keys() if leaky else split.patients(config.part), settings.entry_key
    )


def _new_tasks(home: Uri, scope: Scope, card: Card) -> list[ScoreTask]:
    """Scans without a manifest entry, each with the entries of its earlier states."""
    commits = by_scan(entries(home))
    new = [
        dataclasses.replace(task, stale=_stale(task, commits.get(task.scan_id, ()), card))
        for task in scope.tasks
        if all(commit.key != task.key for commit in commits.get(task.scan_id, ()))
    ]
    log.info(
        "%d scans found, %d to score, %d done before, %d still being written",
        len(scope.tasks) + scope.waiting,
        len(new),
        len(scope.tasks) - len(new),
        scope.waiting,
    )
    return new


def _stale(task: ScoreTask, commits: Sequence[Commit], card: Card) -> tuple[Uri, ...]:
    return tuple(
        commit.uri for commit in commits if commit.key.startswith(card.model_id) and commit.key != task.key
    )


def _own_rows(scope: Scope, rows: Sequence[ScanScore], card: Card) -> list[ScanScore]:
    scans = {task.scan_id for task in scope.tasks}
    return [row for row in rows if row.scan_id in scans and row.model_id == card.model_id]


def _counts(config: ScoreConfig, results: _Results, card: Card) -> dict[str, Any]:
    rows, scope, failed = results.rows, results.scope, results.failed
    quarantined = sum(row.quarantined for row in rows)
    states = Counter(results.states.values())
    status = "data_short" if quarantined > config.max_bad_fraction * scope.files else "done"
    named = ", ".join(failed[:_NAMED])
    return {
        "job": "score",
        "status": "failed" if failed else status,
        **({"error": f"could not be read: {named}; see standard error"} if failed else {}),
        "scans": len(scope.tasks) + scope.waiting,
        "slices": sum(row.slices for row in rows),
        "scored": states[SCORED],
        "skipped_done": len(scope.tasks) - len(results.states),
        "waiting": scope.waiting,
        "changed_while_read": states[CHANGED],
        "failed": len(failed),
        "quarantined": quarantined,
        "scans_with_warnings": sum(bool(row.warnings) for row in rows),
        "slices_per_second": results.slices_per_second,
        "model_id": card.model_id,
        **({"members": len(card.members)} if card.members else {}),
        "patients_csv": display(Scores(canonical(config.out)).patients_csv),
    }


def _evaluation_document(evaluation: Evaluation) -> dict[str, Any]:
    """The evaluation as summary.json has it: the numbers of unseen patients first, the others apart."""
    stored: dict[str, Any] = document(evaluation.unseen)
    if evaluation.slices:
        stored |= document(evaluation.slices)
    return stored | {"seen_known": evaluation.seen_known, "seen": document(evaluation.seen)}


def _comparison_document(comparison: Comparison) -> dict[str, Any]:
    return {
        "with": comparison.other,
        "model_id": comparison.model_id,
        "scans": comparison.scans,
        **document(comparison.difference),
    }


def _headline(evaluation: Evaluation, comparison: Comparison | None) -> dict[str, Any]:
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
        headline["comparison"] = _comparison_document(comparison)
    return headline


def _value(interval: Interval | None) -> float | None:
    return interval and interval.value
