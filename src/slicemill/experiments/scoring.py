"""A scoring run: find the scans, score what is missing, publish and evaluate; or verify what was written."""

from __future__ import annotations

import dataclasses
import hashlib
import logging
import time
import uuid
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from slicemill.config import ScoreConfig
from slicemill.core.scans.readiness import Readiness
from slicemill.core.splits import refuse_leaky
from slicemill.errors import InputError, LakeVersionError
from slicemill.experiments.evaluate import compare, evaluate
from slicemill.experiments.facts import model_facts, scoring_speed
from slicemill.io import storage
from slicemill.io.lake.reader import read_scans
from slicemill.io.lake.splits import read_split
from slicemill.io.places import Scores
from slicemill.io.raw.listing import find_scans, list_raw, scan_pattern
from slicemill.io.run.card import FLIPS, LARGEST_COMPONENT, SMOOTH_SLICES, Card, load_card
from slicemill.io.scores.tables import Row, entries, publish
from slicemill.io.scores.writer import ScoreWriter
from slicemill.io.storage.commits import Commit, by_scan
from slicemill.io.storage.lock import sole_writer
from slicemill.io.storage.uri import canonical, display, join
from slicemill.model.predicting.scoring import ScoreSettings, loaded
from slicemill.schemas import SCHEMA_VERSION
from slicemill.spark.score import CHANGED, FAILED, SCORED, ScoreTask, check_entries, score_scans
from slicemill.spark.session import Session, cores
from slicemill.types import Uri

log = logging.getLogger(__name__)

#: Outputs or scans that a summary names; the log names all.
_NAMED = 20


@dataclass(frozen=True)
class _Scope:
    """The scans that this run answers for, how many files discovery saw, and how many scans are not ready."""

    tasks: tuple[ScoreTask, ...]
    files: int
    waiting: int = 0


def score(config: ScoreConfig, spark: Session, *, leaky: bool = False) -> dict[str, Any]:
    """Score what has no manifest entry yet and return the summary.

    `leaky` is for the measurement of the leak, which alone scores with a model of a split that leaks on
    purpose, and all patients of the split at that. Raises ModelFileError for a model that can't be trusted,
    InputError or ConfigError for wrong input.
    """
    home = canonical(config.out)
    model = canonical(config.model or "")
    card = load_card(model)
    if not leaky:
        refuse_leaky(card.split, "--model")
    settings = _settings(config, model, card, spark)
    # Here and once: a bad weights file is one clear line, not a lost task on every worker. A driver may have
    # no GPU.
    loaded(dataclasses.replace(settings, device="cpu", precision="fp32", threads=None))
    if not card.training_profile:
        log.warning("the model card has no training profile: scans can't be compared with the training scans")
    scope = _raw_scope(config, settings, card) if config.raw else _lake_scope(config, settings, card, leaky)
    job_id = f"score-{uuid.uuid4().hex[:12]}"
    with sole_writer(home, job_id):
        suffix = _suffix(home, card)
        writer = ScoreWriter(home, f"masks{suffix}", card.model_id, job_id)
        there = by_scan(entries(home))
        fresh = [_with_stale(task, there, card) for task in scope.tasks if not _done(task, there)]
        log.info(
            "%d scans found, %d to score, %d done before, %d still being written",
            len(scope.tasks) + scope.waiting,
            len(fresh),
            len(scope.tasks) - len(fresh),
            scope.waiting,
        )
        start = time.monotonic()
        states = score_scans(spark, fresh, settings, writer, config.max_pixels)
        seconds = time.monotonic() - start
        rows = publish(home)
        summary = _summary(config, scope, states, rows, seconds, card)
        evaluation = {
            **_evaluation(config, home, scope, rows, settings, card),
            "model": model_facts(model, card),
            "slices_per_second": summary["slices_per_second"] or scoring_speed(home, suffix),
        }
        storage.write_json(Scores(home).summary(suffix), evaluation)
    return summary | _headline(evaluation)


def verify(config: ScoreConfig, spark: Session) -> dict[str, Any]:
    """Compare every output with the manifest; the status falls short if one is missing or changed."""
    home = canonical(config.out)
    found = entries(home)
    if not found:
        raise InputError(
            f"{display(home)} holds no scores",
            expected="a folder that slicemill score wrote",
            found="no manifest",
        )
    checks = check_entries(spark, home, [entry.uri for entry in found])
    missing = sorted(name for check in checks for name in check.missing)
    changed = sorted(name for check in checks for name in check.changed)
    for what, names in (("missing", missing), ("changed", changed)):
        for name in names:
            log.error("%s: %s", what, name)
    return {
        "job": "score",
        "status": "data_short" if missing or changed else "done",
        "verified_scans": len(found),
        "verified_outputs": sum(check.outputs for check in checks),
        "missing": len(missing),
        "changed": len(changed),
        "named": [*missing, *changed][:_NAMED],
    }


def _settings(config: ScoreConfig, model: Uri, card: Card, spark: Session) -> ScoreSettings:
    slots = int(spark.conf.get("spark.task.cpus", "1") or 1)
    return ScoreSettings(
        model=model,
        model_id=card.model_id,
        device=config.device,
        precision=config.precision,
        threads=slots if cores(spark) > 1 else None,
        batch_size=config.batch_size,
        threshold=config.threshold if config.threshold is not None else card.threshold,
        flips=_on(config.tta, "flips", FLIPS, card),
        smooth_slices=_on(config.smoothing, "slices", SMOOTH_SLICES, card),
        largest_component=_on(config.components, "largest", LARGEST_COMPONENT, card),
    )


def _on(asked: str, on: str, option: str, card: Card) -> bool:
    return option in card.options if asked == "auto" else asked == on


def _suffix(home: Uri, card: Card) -> str:
    """Nothing for the first model that ever scored into this folder, -<model_id> for every other."""
    uri = Scores(home).card
    if not storage.exists(uri):
        storage.write_json(uri, {"schema_version": SCHEMA_VERSION, "model_id": card.model_id})
        return ""
    there = storage.read_json(uri)
    if there.get("schema_version") != SCHEMA_VERSION:
        raise LakeVersionError(
            f"the scores {display(home)} are of another schema version",
            expected=SCHEMA_VERSION,
            found=there.get("schema_version"),
            advice="Score into a new folder.",
        )
    return "" if there.get("model_id") == card.model_id else f"-{card.model_id}"


def _key(fingerprint: str, settings: ScoreSettings, card: Card) -> str:
    """Key of a manifest entry: the model, and a hash of the input and of what changes the output."""
    text = "|".join([fingerprint, str(settings.threshold), *settings.options])
    digest = hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
    return f"{card.model_id}-{digest}"


def _raw_scope(config: ScoreConfig, settings: ScoreSettings, card: Card) -> _Scope:
    files = list_raw(config.raw)
    found = find_scans(config.raw, files, scan_pattern(config.scan_pattern))
    for problem in found.problems:
        log.warning("%s: %s", problem.reason, display(problem.uri))
    ready = Readiness(config.ready_marker, 60 * config.quiet_minutes)
    waiting = ready.waiting(found.scans, ((file.uri, file.modified) for file in files), time.time())
    scans = [scan for scan in found.scans if scan.scan_id not in waiting]
    tasks = tuple(
        ScoreTask(
            scan.scan_id, scan.fingerprint, _key(scan.fingerprint, settings, card), (), scan.size, raw=scan
        )
        for scan in scans
    )
    return _Scope(tasks, sum(scan.files for scan in scans), len(waiting))


def _lake_scope(config: ScoreConfig, settings: ScoreSettings, card: Card, leaky: bool) -> _Scope:
    home = canonical(config.lake or "")
    rows = read_scans(home, ("patient_id", "scan_id", "slices", "data_uri", "content_hash"))
    split = read_split(home, config.split or "")
    if card.members and split.folds is not None and split.hash == card.split_hash:
        raise InputError(
            "the committee's members were trained on the other folds, so that together they have seen all",
            expected="patients of another split, or new scans by --raw",
            found=f"{split.name}, {config.part}",
        )
    patients = split.assigned.keys() if leaky else split.patients(config.part)
    chosen = [row for row in rows if row["patient_id"] in patients]
    tasks = tuple(
        ScoreTask(
            row["scan_id"],
            row["content_hash"],
            _key(row["content_hash"], settings, card),
            (),
            row["slices"],
            lake=home,
            lake_row=row,
        )
        for row in chosen
    )
    return _Scope(tasks, sum(row["slices"] for row in chosen))


def _done(task: ScoreTask, there: Mapping[str, Sequence[Commit]]) -> bool:
    return any(commit.key == task.key for commit in there.get(task.scan_id, ()))


def _with_stale(task: ScoreTask, there: Mapping[str, Sequence[Commit]], card: Card) -> ScoreTask:
    stale = tuple(
        commit.uri
        for commit in there.get(task.scan_id, ())
        if commit.key.startswith(card.model_id) and commit.key != task.key
    )
    return dataclasses.replace(task, stale=stale)


def _in_scope(scope: _Scope, rows: Sequence[Row], card: Card) -> list[Row]:
    scans = {task.scan_id for task in scope.tasks}
    return [row for row in rows if row["scan_id"] in scans and row["model_id"] == card.model_id]


def _summary(
    config: ScoreConfig,
    scope: _Scope,
    states: Mapping[str, str],
    rows: Sequence[Row],
    seconds: float,
    card: Card,
) -> dict[str, Any]:
    here = _in_scope(scope, rows, card)
    quarantined = sum(row["quarantined"] for row in here)
    became = Counter(states.values())
    scored = became[SCORED]
    new_slices = sum(row["slices"] for row in here if states.get(row["scan_id"]) == SCORED)
    failed = sorted(scan_id for scan_id, state in states.items() if state == FAILED)
    status = "data_short" if quarantined > config.max_bad_fraction * scope.files else "done"
    error = (
        {"error": f"could not be read: {', '.join(failed[:_NAMED])}; see standard error"} if failed else {}
    )
    return {
        "job": "score",
        "status": "failed" if failed else status,
        **error,
        "scans": len(scope.tasks) + scope.waiting,
        "slices": sum(row["slices"] for row in here),
        "scored": scored,
        "skipped_done": len(scope.tasks) - len(states),
        "waiting": scope.waiting,
        "changed_while_read": became[CHANGED],
        "failed": len(failed),
        "quarantined": quarantined,
        "scans_with_warnings": sum(bool(row["warnings"]) for row in here),
        "slices_per_second": round(new_slices / seconds, 2) if scored else None,
        "model_id": card.model_id,
        **({"members": len(card.members)} if card.members else {}),
        "patients_csv": display(join(canonical(config.out), "patients.csv")),
    }


def _evaluation(
    config: ScoreConfig,
    home: Uri,
    scope: _Scope,
    rows: Sequence[Row],
    settings: ScoreSettings,
    card: Card,
) -> dict[str, Any]:
    here = _in_scope(scope, rows, card)
    # Of new folders the old are not read again, so a classifier is judged on splits only.
    classifier = card.task == "classify" and config.lake is not None
    return {
        "schema_version": SCHEMA_VERSION,
        "model_id": card.model_id,
        "threshold": settings.threshold,
        "options": list(settings.options),
        "split": config.split,
        "part": config.part if config.split else None,
        **evaluate(home, here, settings.threshold, classifier=classifier),
        "comparison": compare(home, here, config.compare_with) if config.compare_with else None,
    }


def _headline(evaluation: Mapping[str, Any]) -> dict[str, Any]:
    """The numbers of the evaluation that the summary line shows."""
    found: dict[str, Any] = {}
    for name in ("mean_patient_dice", "median_patient_dice", "slice_accuracy", "slice_auroc"):
        if name in evaluation:
            found[name] = evaluation[name] and evaluation[name]["value"]
    if evaluation["mean_patient_dice"]:
        interval = evaluation["mean_patient_dice"]
        found["mean_patient_dice_interval"] = [interval["low"], interval["high"]]
    if evaluation["comparison"]:
        found["comparison"] = evaluation["comparison"]
    return found
