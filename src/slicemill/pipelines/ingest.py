"""Raw TIFF slices to the lake: list, compare with what is there, read what is new, publish the tables."""

from __future__ import annotations

import logging
import re
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa

from slicemill.config import IngestConfig
from slicemill.core.discovery import Discovery, FoundFile, ScanTask, discover
from slicemill.core.profile import summarise
from slicemill.errors import ConfigError, InputError, LakeVersionError
from slicemill.io import lake, storage
from slicemill.io.clinical import Clinical, read_clinical
from slicemill.io.commits import Commit, by_scan, list_commits
from slicemill.io.lake_writer import COMMIT_SUFFIX, LakeWriter, from_commit, quarantine_row
from slicemill.io.lock import sole_writer
from slicemill.io.parquet import read_small_or_empty, write_small
from slicemill.io.uri import canonical, display
from slicemill.schemas import QUARANTINE, SCANS, SCHEMA_VERSION, TOTALS
from slicemill.spark.ingest import ingest_scans
from slicemill.spark.session import Session

log = logging.getLogger(__name__)


@dataclass
class _Plan:
    """What a run has to do: scans to read, commits to keep, commits whose scan is gone."""

    fresh: list[ScanTask] = field(default_factory=list)
    kept: list[Commit] = field(default_factory=list)
    gone: list[Commit] = field(default_factory=list)
    stale: dict[str, tuple[str, ...]] = field(default_factory=dict)


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
        plan = _plan(found.scans, list_commits(lake.commits(home), COMMIT_SUFFIX))
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


def scan_pattern(text: str) -> re.Pattern[str]:
    """The scan pattern, compiled; raise ConfigError if it is none."""
    try:
        return re.compile(text)
    except re.error as error:
        raise ConfigError("--scan-pattern is no regular expression", found=str(error)) from error


def list_raw(raw: Sequence[str]) -> list[storage.StoredFile]:
    """List every raw URI once; raise InputError for one that is not there."""
    return [file for uri in raw for file in storage.list_files(canonical(uri))]


def find_scans(
    raw: Sequence[str], files: Sequence[storage.StoredFile], pattern: re.Pattern[str]
) -> Discovery:
    """Group what `list_raw` found into scans; raise InputError if there is no TIFF."""
    found = discover((FoundFile(file.uri, file.size, file.version) for file in files), pattern)
    if not found.scans:
        raise InputError(
            f"no TIFF slices below {', '.join(display(canonical(uri)) for uri in raw)}",
            expected="scan folders with <scan_id>_<n>.tif files",
            found=f"{len(files)} other files",
            advice="Point --raw at the folder that holds the scan folders.",
        )
    return found


def _open_lake(home: str, config: IngestConfig) -> None:
    card = {"schema_version": SCHEMA_VERSION, "bucket": config.bucket, "scan_pattern": config.scan_pattern}
    uri = lake.lake_card(home)
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


def _earlier(home: str, commits: Sequence[Commit]) -> list[dict[str, Any]]:
    """Rows of scans committed earlier: from the tables, or from commits that were never published."""
    if not commits:
        return []
    scans = _by_scan(read_small_or_empty(lake.scans(home), SCANS, SCANS.names))
    totals = _by_scan(read_small_or_empty(lake.totals(home), TOTALS))
    quarantine = _by_scan(read_small_or_empty(lake.quarantine(home), QUARANTINE))
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
        lambda commit: storage.read_json(commit.uri), commits, commits[0].uri if commits else ""
    )


def _prune(gone: Sequence[Commit], writer: LakeWriter) -> None:
    for commit, content in zip(gone, _read(gone), strict=True):
        # The commit goes last: a run killed in between finds it again, and nothing is left behind.
        if content["scan"]:
            writer.remove_data(commit.scan_id, content["scan"]["patient_id"])
        storage.remove(commit.uri)


def _publish(
    home: str,
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
    write_small(lake.totals(home), TOTALS, totals)
    write_small(lake.quarantine(home), QUARANTINE, quarantine)
    storage.write_json(lake.profile_summary(home), summary)
    write_small(lake.scans(home), SCANS, scans, extra)
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
