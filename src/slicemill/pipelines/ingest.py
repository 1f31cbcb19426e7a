"""Raw TIFF slices to the lake: list, compare with what is there, read what is new, publish the tables."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa

from slicemill.config import IngestConfig
from slicemill.core.scans.discovery import Discovery, ScanTask
from slicemill.core.scans.profile import summarise
from slicemill.errors import ConfigError, LakeVersionError
from slicemill.io import storage
from slicemill.io.lake.writer import COMMIT_SUFFIX, LakeWriter, from_commit, quarantine_row
from slicemill.io.parquet import read_small_or_empty, write_small
from slicemill.io.places import Lake
from slicemill.io.raw.clinical import Clinical, read_clinical
from slicemill.io.raw.listing import find_scans, list_raw, scan_pattern
from slicemill.io.storage.commits import Commit, by_scan, list_commits
from slicemill.io.storage.lock import sole_writer
from slicemill.io.storage.uri import canonical, display
from slicemill.schemas import QUARANTINE, SCANS, SCHEMA_VERSION, TOTALS
from slicemill.spark.ingest import ingest_scans
from slicemill.spark.session import Session
from slicemill.types import Uri

log = logging.getLogger(__name__)


@dataclass
class _Plan:
    """What a run has to do: scans to read, commits to keep, commits whose scan is gone."""

    fresh: list[ScanTask] = field(default_factory=list)
    kept: list[Commit] = field(default_factory=list)
    gone: list[Commit] = field(default_factory=list)
    stale: dict[str, tuple[Uri, ...]] = field(default_factory=dict)


def run(config: IngestConfig, spark: Session) -> dict[str, Any]:
    """Ingest and return the summary.

    Raises InputError if a path does not exist or holds no TIFF, ConfigError if the lake has another layout.
    """
    home = canonical(config.lake)
    pattern = scan_pattern(config.scan_pattern)
    clinical = read_clinical(canonical(config.clinical)) if config.clinical else None
    found = find_scans(config.raw, list_raw(config.raw), pattern)
    started = datetime.now(UTC)
    job_id = f"ingest-{started:%Y%m%dT%H%M%S}-{uuid.uuid4().hex[:6]}"
    writer = LakeWriter(home, config.bucket, job_id, started, config.max_pixels)
    with sole_writer(home, job_id):
        _open_lake(home, config)
        plan = _plan(found.scans, list_commits(Lake(home).commits, COMMIT_SUFFIX))
        log.info(
            "%d scans found, %d to read, %d unchanged", len(found.scans), len(plan.fresh), len(plan.kept)
        )
        commits = [from_commit(commit) for commit in ingest_scans(spark, writer, plan.fresh, plan.stale)]
        commits += _earlier(home, plan.kept if config.prune else [*plan.kept, *plan.gone])
        if config.prune:
            _prune(plan.gone, writer)
        rows = _publish(home, commits, found, writer, clinical)
    files = sum(task.files for task in found.scans) + len(found.problems)
    return _summary(config, found, plan, rows, files)


def _open_lake(home: Uri, config: IngestConfig) -> None:
    card = {"schema_version": SCHEMA_VERSION, "bucket": config.bucket, "scan_pattern": config.scan_pattern}
    uri = Lake(home).card
    if not storage.exists(uri):
        storage.write_json(uri, card)
        return
    there = storage.read_json(uri)
    if there.get("schema_version") != SCHEMA_VERSION:
        raise LakeVersionError(
            f"the lake {display(home)} is of another schema version",
            expected=SCHEMA_VERSION,
            found=there.get("schema_version"),
            advice="Ingest into a new folder.",
        )
    for key, flag in (("bucket", "--bucket"), ("scan_pattern", "--scan-pattern")):
        if there.get(key) != card[key]:
            raise ConfigError(
                f"{flag} differs from the lake's",
                expected=there.get(key),
                found=card[key],
                advice="Use the lake's, or a new lake.",
            )


def _plan(scans: Sequence[ScanTask], commits: list[Commit]) -> _Plan:
    grouped = by_scan(commits)
    plan = _Plan()
    for task in scans:
        old = grouped.get(task.scan_id, [])
        if [commit.key for commit in old] == [task.fingerprint]:
            plan.kept += old
            continue
        plan.fresh.append(task)
        plan.stale[task.scan_id] = tuple(commit.uri for commit in old)
    present = {task.scan_id for task in scans}
    plan.gone = [commit for commit in commits if commit.scan_id not in present]
    return plan


def _earlier(home: Uri, commits: Sequence[Commit]) -> list[dict[str, Any]]:
    """Rows of scans committed earlier: from the tables, or from commits that were never published."""
    if not commits:
        return []
    scans = _by_scan(read_small_or_empty(Lake(home).scans, SCANS, SCANS.names))
    totals = _by_scan(read_small_or_empty(Lake(home).totals, TOTALS))
    quarantine = _by_scan(read_small_or_empty(Lake(home).quarantine, QUARANTINE))
    published, unpublished = [], []
    for commit in commits:
        (scan,) = scans.get(commit.scan_id, [None])
        if scan and scan["source_fingerprint"] == commit.key and commit.scan_id in totals:
            rows = quarantine.get(commit.scan_id, [])
            published.append({"scan": scan, "totals": totals[commit.scan_id][0], "quarantine": rows})
        else:
            unpublished.append(commit)
    return published + [from_commit(content) for content in _read(unpublished)]


def _by_scan(table: pa.Table) -> dict[str, list[dict[str, Any]]]:
    grouped: dict[str, list[dict[str, Any]]] = {}
    for row in table.to_pylist():
        grouped.setdefault(row["scan_id"], []).append(row)
    return grouped


def _read(commits: Sequence[Commit]) -> list[dict[str, Any]]:
    return storage.each(
        lambda commit: storage.read_json(commit.uri), commits, commits[0].uri if commits else None
    )


def _prune(gone: Sequence[Commit], writer: LakeWriter) -> None:
    for commit, content in zip(gone, _read(gone), strict=True):
        # The commit goes last: a run killed in between finds it again, and nothing is left behind.
        if content["scan"]:
            writer.remove_data(commit.scan_id, content["scan"]["patient_id"])
        storage.remove(commit.uri)


def _publish(
    home: Uri,
    commits: Sequence[dict[str, Any]],
    found: Discovery,
    writer: LakeWriter,
    clinical: Clinical | None,
) -> dict[str, list[dict[str, Any]]]:
    """Write the lake's small tables, each whole, from all commits; return their rows."""
    scans = sorted((commit["scan"] for commit in commits if commit["scan"]), key=lambda row: row["scan_id"])
    totals = sorted(
        (commit["totals"] for commit in commits if commit["totals"]), key=lambda row: row["scan_id"]
    )
    quarantine = [row for commit in commits for row in commit["quarantine"]]
    quarantine += [quarantine_row(problem, writer.job_id, writer.started) for problem in found.problems]
    quarantine.sort(key=lambda row: (row["uri"], row["reason"]))
    summary = summarise(scans, totals)
    summary["quarantined"] = len(quarantine)
    summary["ignored_files"] = found.ignored
    extra = []
    if clinical:
        extra = clinical.columns_for(SCANS.names)
        by_patient = clinical.rows_for(SCANS.names)
        scans = [{**row, **by_patient.get(row["patient_id"], {})} for row in scans]
        present = {row["patient_id"] for row in scans}
        summary["clinical"] = {
            "patients_without_row": sorted(present - by_patient.keys()),
            "rows_without_patient": sorted(by_patient.keys() - present),
        }
    write_small(Lake(home).totals, TOTALS, totals)
    write_small(Lake(home).quarantine, QUARANTINE, quarantine)
    storage.write_json(Lake(home).profile_summary, summary)
    write_small(Lake(home).scans, SCANS, scans, extra)
    return {"scans": scans, "quarantine": quarantine}


def _summary(
    config: IngestConfig, found: Discovery, plan: _Plan, rows: dict[str, list[dict[str, Any]]], files: int
) -> dict[str, Any]:
    quarantined = len(rows["quarantine"])
    short = quarantined > config.max_bad_fraction * files
    return {
        "job": "ingest",
        "status": "data_short" if short else "done",
        "scans": len(rows["scans"]),
        "slices": sum(row["slices"] for row in rows["scans"]),
        "tumour_slices": sum(row["tumour_slices"] for row in rows["scans"]),
        "quarantined": quarantined,
        "skipped_unchanged": len(plan.kept),
        "read": len(plan.fresh),
        "gone": len(plan.gone),
        "pruned": len(plan.gone) if config.prune else 0,
        "ignored_files": sum(found.ignored.values()),
        "lake": display(canonical(config.lake)),
    }
