"""New scan folders, or a part of a split, to masks and per-patient Dice: find, score, publish."""

from __future__ import annotations

import csv
import hashlib
import io
import logging
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa

from slicemill.config import ScoreConfig
from slicemill.core.discovery import Discovery
from slicemill.errors import LakeVersionError
from slicemill.io import lake, storage
from slicemill.io.card import Card, load_card
from slicemill.io.commits import Commit, by_scan, list_commits
from slicemill.io.lake_reader import read_scans
from slicemill.io.lock import sole_writer
from slicemill.io.parquet import read_file, read_small_or_empty, write_small
from slicemill.io.score_writer import MANIFEST_SUFFIX, ScoreWriter
from slicemill.io.split_table import read_split
from slicemill.io.uri import canonical, display, join
from slicemill.model.scoring import ScoreSettings, loaded
from slicemill.pipelines.ingest import find_scans, list_raw, scan_pattern
from slicemill.schemas import MANIFEST, SCHEMA_VERSION, SCORED_PATIENTS
from slicemill.spark.score import ScoreTask, score_scans
from slicemill.spark.session import Session, cores

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Scope:
    """The scans that this run answers for, and how many files discovery saw."""

    tasks: tuple[ScoreTask, ...]
    files: int


def run(config: ScoreConfig, spark: Session) -> dict[str, Any]:
    """Score what has no manifest entry yet and return the summary.

    Raises ModelFileError for a model that can't be trusted, InputError or ConfigError for wrong input.
    """
    home, model = canonical(config.out), canonical(config.model)
    card = load_card(model)
    settings = _settings(config, model, card, spark)
    # Here and once: a bad weights file is one clear line, not a lost task on every worker.
    loaded(model, settings.device, settings.precision, None)
    scope = _raw_scope(config, settings, card) if config.raw else _lake_scope(config, settings, card)
    job_id = f"score-{uuid.uuid4().hex[:12]}"
    with sole_writer(home, job_id):
        writer = ScoreWriter(home, _mask_folder(home, card), card.model_id, job_id)
        there = by_scan(list_commits(lake.manifest(home), MANIFEST_SUFFIX))
        fresh = [_with_stale(task, there, card) for task in scope.tasks if not _done(task, there)]
        done = len(scope.tasks) - len(fresh)
        log.info("%d scans found, %d to score, %d done before", len(scope.tasks), len(fresh), done)
        start = time.monotonic()
        score_scans(spark, fresh, settings, writer, config.max_pixels)
        seconds = time.monotonic() - start
        rows = publish(home)
    return _summary(config, scope, fresh, rows, seconds, card)


def _settings(config: ScoreConfig, model: str, card: Card, spark: Session) -> ScoreSettings:
    slots = int(spark.conf.get("spark.task.cpus", "1") or 1)
    return ScoreSettings(
        model=model,
        device=config.device,
        precision=config.precision,
        threads=slots if cores(spark) > 1 else None,
        batch_size=config.batch_size,
        threshold=config.threshold if config.threshold is not None else card.threshold,
    )


def _mask_folder(home: str, card: Card) -> str:
    """masks for the first model that ever scored into this folder, masks-<model_id> for every other."""
    uri = lake.score_card(home)
    if not storage.exists(uri):
        storage.write_json(uri, {"schema_version": SCHEMA_VERSION, "model_id": card.model_id})
        return "masks"
    there = storage.read_json(uri)
    if there.get("schema_version") != SCHEMA_VERSION:
        raise LakeVersionError(
            f"the scores {display(home)} are of another schema version",
            expected=SCHEMA_VERSION,
            found=there.get("schema_version"),
            advice="Score into a new folder.",
        )
    return "masks" if there.get("model_id") == card.model_id else f"masks-{card.model_id}"


def _key(fingerprint: str, settings: ScoreSettings, card: Card) -> str:
    """Key of a manifest entry: the model, and a hash of the input and of what changes the output."""
    digest = hashlib.blake2b(f"{fingerprint}|{settings.threshold}".encode(), digest_size=8).hexdigest()
    return f"{card.model_id}-{digest}"


def _raw_scope(config: ScoreConfig, settings: ScoreSettings, card: Card) -> _Scope:
    found: Discovery = find_scans(config.raw, list_raw(config.raw), scan_pattern(config.scan_pattern))
    for problem in found.problems:
        log.warning("%s: %s", problem.reason, display(problem.uri))
    tasks = tuple(
        ScoreTask(
            scan.scan_id, scan.fingerprint, _key(scan.fingerprint, settings, card), (), scan.size, raw=scan
        )
        for scan in found.scans
    )
    return _Scope(tasks, sum(scan.files for scan in found.scans))


def _lake_scope(config: ScoreConfig, settings: ScoreSettings, card: Card) -> _Scope:
    home = canonical(config.lake or "")
    rows = read_scans(home, ("patient_id", "scan_id", "slices", "data_uri", "content_hash"))
    patients = read_split(home, config.split or "").patients(config.part)
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


def _done(task: ScoreTask, there: Any) -> bool:
    return any(commit.key == task.key for commit in there.get(task.scan_id, ()))


def _with_stale(task: ScoreTask, there: Any, card: Card) -> ScoreTask:
    stale = tuple(
        commit.uri
        for commit in there.get(task.scan_id, ())
        if commit.key.startswith(card.model_id) and commit.key != task.key
    )
    return ScoreTask(
        task.scan_id, task.fingerprint, task.key, stale, task.size, task.raw, task.lake, task.lake_row
    )


def publish(home: str) -> list[dict[str, Any]]:
    """Write the patients table and its CSV from the manifest; return the rows.

    Entries that the table holds already are not read again.
    """
    commits = list_commits(lake.manifest(home), MANIFEST_SUFFIX)
    earlier = {row["manifest"]: row for row in _published(home)}
    missing = [commit for commit in commits if commit.uri.rpartition("/")[2] not in earlier]
    read = storage.each(_entry, missing, home)
    rows = [*(earlier[name] for name in _names(commits) if name in earlier), *read]
    rows.sort(key=lambda row: (row["patient_id"], row["scan_id"], row["model_id"]))
    write_small(lake.scored_patients(home), SCORED_PATIENTS, rows)
    storage.write_bytes(lake.scored_patients_csv(home), _csv(rows))
    return rows


def _published(home: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = read_small_or_empty(lake.scored_patients(home), SCORED_PATIENTS).to_pylist()
    return rows


def _names(commits: Sequence[Commit]) -> list[str]:
    return [commit.uri.rpartition("/")[2] for commit in commits]


def _entry(commit: Commit) -> dict[str, Any]:
    table: pa.Table = read_file(commit.uri, MANIFEST)
    row: dict[str, Any] = table.to_pylist()[0]
    return {
        **{name: row.get(name) for name in SCORED_PATIENTS.names},
        "manifest": commit.uri.rpartition("/")[2],
    }


def _csv(rows: Sequence[dict[str, Any]]) -> bytes:
    sink = io.StringIO()
    writer = csv.DictWriter(sink, SCORED_PATIENTS.names, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({name: _cell(row[name]) for name in SCORED_PATIENTS.names})
    return sink.getvalue().encode()


def _cell(value: Any) -> Any:
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat(timespec="seconds")
    return "; ".join(map(str, value)) if isinstance(value, list) else value


def _summary(
    config: ScoreConfig,
    scope: _Scope,
    fresh: Sequence[ScoreTask],
    rows: Sequence[dict[str, Any]],
    seconds: float,
    card: Card,
) -> dict[str, Any]:
    in_scope = {task.scan_id for task in scope.tasks}
    new = {task.scan_id for task in fresh}
    here = [row for row in rows if row["scan_id"] in in_scope and row["model_id"] == card.model_id]
    dice = [row["dice"] for row in here if row["dice"] is not None]
    quarantined = sum(row["quarantined"] for row in here)
    new_slices = sum(row["slices"] for row in here if row["scan_id"] in new)
    return {
        "job": "score",
        "status": "data_short" if quarantined > config.max_bad_fraction * scope.files else "done",
        "scans": len(scope.tasks),
        "slices": sum(row["slices"] for row in here),
        "scored": len(fresh),
        "skipped_done": len(scope.tasks) - len(fresh),
        "quarantined": quarantined,
        "mean_patient_dice": sum(dice) / len(dice) if dice else None,
        "slices_per_second": round(new_slices / seconds, 2) if fresh else None,
        "model_id": card.model_id,
        "patients_csv": display(join(canonical(config.out), "patients.csv")),
    }
