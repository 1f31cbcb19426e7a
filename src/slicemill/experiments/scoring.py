"""A scoring run: find the scans, score what is missing, publish and evaluate."""

from __future__ import annotations

import dataclasses
import logging
import time
import uuid
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from slicemill.config import ScoreConfig
from slicemill.core.evaluation.document import document
from slicemill.core.evaluation.rows import ScanScore
from slicemill.core.splits import refuse_leaky
from slicemill.errors import InputError
from slicemill.experiments.evaluate import Comparison, Evaluation, compare, evaluate
from slicemill.experiments.facts import model_facts, scoring_speed
from slicemill.experiments.score_settings import check_model, extras_of, score_settings
from slicemill.experiments.score_summary import (
    ScoreResults,
    comparison_document,
    engines,
    evaluation_document,
    score_counts,
    score_headline,
    score_numbers,
)
from slicemill.io import storage
from slicemill.io.lake.splits import read_split
from slicemill.io.places import Scores
from slicemill.io.process_memory import reuse_freed_memory
from slicemill.io.run.card import Card
from slicemill.io.run.pointer import NamedModel, open_model
from slicemill.io.run.quantisation import require_quantisation
from slicemill.io.run.tracking_store import TrackedRun
from slicemill.io.scores.extras import Extras
from slicemill.io.scores.folder import claim
from slicemill.io.scores.progress import scoring_progress
from slicemill.io.scores.scope import Scope, lake_scope, raw_scope
from slicemill.io.scores.source import FAILED, ScanOutcome, ScoreTask
from slicemill.io.scores.tables import entries, publish
from slicemill.io.scores.writer import ScoreWriter
from slicemill.io.storage.commits import Commit, by_scan
from slicemill.io.storage.lock import sole_writer
from slicemill.io.storage.uri import canonical, display
from slicemill.model.predicting.settings import ScoreSettings
from slicemill.schemas import SCHEMA_VERSION
from slicemill.spark.request import spark_requested
from slicemill.types import Uri

if TYPE_CHECKING:
    from slicemill.spark.session import Session

log = logging.getLogger(__name__)

#: Slices up to which work without a session is done in this process: Spark's start outweighs them.
HERE_SLICES = 600


def score(config: ScoreConfig, spark: Session | None = None, *, leaky: bool = False) -> dict[str, Any]:
    """Score what has no manifest entry yet and return the summary.

    Without a session, little work is done in this process and much work in a session of its own; see
    `runs_here`.

    `leaky` is for the measurement of the leak, which alone scores with a model of a split that leaks on
    purpose, and all patients of the split at that. Raises ModelFileError for a model that can't be trusted,
    InputError or ConfigError for wrong input.
    """
    home, reference = canonical(config.out), open_model(config.model or "")
    model, card = reference.run, reference.card
    if not leaky:
        refuse_leaky(card.split, "--model")
    settings, extras = _checked_settings(config, model, card)
    tracked = TrackedRun.of(model, "--track") if config.track else None
    scope = _scope(config, settings, card, leaky)
    job_id = f"score-{uuid.uuid4().hex[:12]}"
    with sole_writer(home, job_id) as fence:
        suffix = claim(home, card.model_id)
        writer = ScoreWriter(fence, f"masks{suffix}", card.model_id, job_id, extras)
        states, seconds = _score_new(
            spark, _new_tasks(home, scope, card), settings, writer, config.max_pixels
        )
        fence.check()
        results = ScoreResults(scope, _own_rows(scope, publish(home), card), states, seconds)
        # Of new folders the old are not read again, so a classifier is judged on splits only.
        classifier = card.task == "classify" and config.lake is not None
        evaluation = evaluate(home, results.rows, settings.threshold, classifier=classifier)
        comparison = compare(home, results.rows, config.compare_with) if config.compare_with else None
        stored = {
            **_settings_document(config, settings, reference),
            **_results_document(results, evaluation, comparison),
            "slices_per_second": results.slices_per_second or scoring_speed(home, suffix),
        }
        storage.write_json(Scores(home).summary(suffix), stored)
    if tracked is not None:
        tracked.log_scores(score_numbers(evaluation), home)
    followed = {"run": display(model), "pointer": reference.pointer} if reference.pointer else {}
    return score_counts(config, results, card) | followed | score_headline(evaluation, comparison)


def _checked_settings(config: ScoreConfig, model: Uri, card: Card) -> tuple[ScoreSettings, Extras]:
    extras = extras_of(config, card)
    settings = dataclasses.replace(score_settings(config, model, card), extras=extras.names)
    # Here and once: a bad weights file is one clear line, not a lost task on every worker.
    check_model(model, card)
    if config.precision == "int8":
        require_quantisation(model, card)
    if not card.training_profile:
        log.warning("the model card has no training profile: scans can't be compared with the training scans")
    return settings, extras


def _score_new(
    spark: Session | None,
    tasks: Sequence[ScoreTask],
    settings: ScoreSettings,
    writer: ScoreWriter,
    max_pixels: int,
) -> tuple[dict[str, str], float]:
    """Score scans; the state of each by scan id, and the seconds that it took."""
    start = time.monotonic()
    with scoring_progress(writer.scores, tasks):
        states = _states(_score_tasks(spark, tasks, settings, writer, max_pixels))
    return states, time.monotonic() - start


def _results_document(
    results: ScoreResults, evaluation: Evaluation, comparison: Comparison | None
) -> dict[str, Any]:
    """What summary.json says of what came out."""
    return {
        "engines": engines(results.rows),
        **evaluation_document(evaluation),
        "comparison": comparison and comparison_document(comparison),
    }


def _settings_document(config: ScoreConfig, settings: ScoreSettings, named: NamedModel) -> dict[str, Any]:
    """What summary.json says of the model and of how it scored."""
    return {
        "schema_version": SCHEMA_VERSION,
        "model_id": settings.model_id,
        "model": document(model_facts(named.run, named.card)),
        "run": display(named.run),
        "pointer": named.pointer,
        "threshold": settings.threshold,
        "options": list(settings.options.names),
        "extras": list(settings.extras),
        "split": config.split,
        "part": config.part if config.split else None,
    }


def runs_here(tasks: Sequence[ScoreTask]) -> bool:
    """Whether work without a session is done in this process, because Spark would cost more than it gives.

    So it is up to `HERE_SLICES` slices, unless spark-submit started this process, or SLICEMILL_MASTER names
    another place to work. Masks and numbers are the same bits either way.
    """
    return not spark_requested() and sum(task.slices for task in tasks) <= HERE_SLICES


def _score_tasks(
    spark: Session | None,
    tasks: Sequence[ScoreTask],
    settings: ScoreSettings,
    writer: ScoreWriter,
    max_pixels: int,
) -> list[ScanOutcome]:
    if not tasks:
        return []
    if spark is None and runs_here(tasks):
        # Imports of torch, which a driver with a cluster does without.
        from slicemill.model.predicting.worker import score_in_this_process

        reuse_freed_memory()
        return score_in_this_process(tasks, settings, writer, max_pixels)
    from slicemill.spark.score import score_scans
    from slicemill.spark.session import given_or_new

    with given_or_new(spark, "score") as session:
        return score_scans(session, tasks, settings, writer, max_pixels)


def _states(outcomes: Sequence[ScanOutcome]) -> dict[str, str]:
    for outcome in outcomes:
        if outcome.state == FAILED:
            log.error("%s: %s", outcome.scan_id, outcome.reason)
    return {outcome.scan_id: outcome.state for outcome in outcomes}


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
    patients = split.assigned.keys() if leaky else split.patients(config.part)
    return lake_scope(config, patients, settings.entry_key)


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
