"""Raw slices to the lake: list, compare with what is stored, read what is new, publish the tables."""

from __future__ import annotations

import logging
import re
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from slicemill.config import IngestConfig
from slicemill.core.scans.discovery import Discovery, ScanTask
from slicemill.core.scans.findings import unlabelled
from slicemill.io import storage
from slicemill.io.lake.card import open_lake, require_lake
from slicemill.io.lake.check import CommitCheck, check_commit
from slicemill.io.lake.commits import COMMIT_SUFFIX, ScanCommit
from slicemill.io.lake.content import LakeContent
from slicemill.io.lake.published import publish, read_commits, read_published
from slicemill.io.lake.rows import QuarantineRow, ScanRow
from slicemill.io.lake.scan_ingest import IngestOutcome, ScanFailure, ingest_in_this_process
from slicemill.io.lake.writer import LakeWriter
from slicemill.io.places import Lake
from slicemill.io.raw.clinical import Clinical, read_clinical
from slicemill.io.raw.listing import find_scans, list_raw, scan_pattern
from slicemill.io.raw.patients import read_patients
from slicemill.io.storage.commits import Commit, by_scan, list_commits
from slicemill.io.storage.lock import sole_writer
from slicemill.io.storage.uri import canonical, display
from slicemill.io.verification import verification
from slicemill.schemas import SCANS
from slicemill.spark.request import spark_requested
from slicemill.types import Uri

if TYPE_CHECKING:
    from slicemill.spark.session import Session

log = logging.getLogger(__name__)

#: Below this share of patients with a clinical row, the table is probably another study's.
_FEW_JOINS = 0.5
_NAMED = 5
#: Bytes that a run without a session reads in this process, some 5,000 slices of 256 px. On two cores threads
#: read at 0.7 of Spark's rate, but have ended before Spark would: it takes 10 s to start.
HERE_BYTES = 1 << 30
#: Commits up to which `--verify` does.
_HERE_COMMITS = 50


@dataclass(frozen=True)
class IngestPlan:
    """What a run has to do: scans to read, commits that stand, and `orphans`, whose folder is gone.

    `replaced` are the commits that a scan to read makes void, by scan id, and `replaced_rows` their rows by
    commit. `standing` are the rows of the commits that stand, and `orphan_rows` those of the orphans.
    """

    to_read: tuple[ScanTask, ...]
    replaced: Mapping[str, tuple[Uri, ...]]
    replaced_rows: Mapping[Uri, ScanCommit]
    standing: tuple[ScanCommit, ...]
    orphans: tuple[Commit, ...]
    orphan_rows: tuple[ScanCommit, ...]


@dataclass(frozen=True)
class IngestSummary:
    """The last line of an ingest. `clinical_patients` is null if the lake has no clinical columns."""

    status: str
    scans: int
    slices: int
    tumour_slices: int
    quarantined: int
    skipped_unchanged: int
    read: int
    failed: int
    gone: int
    pruned: int
    leftovers: int
    ignored_files: int
    other_formats: int
    unmatched_folders: int
    unlabelled_scans: int
    unlabelled_slices: int
    implausible_masks: int
    clinical_patients: int | None
    lake: str
    error: str | None = None
    job: str = "ingest"

    def line(self) -> dict[str, Any]:
        """The summary for JSON, without an error where there is none."""
        return {name: value for name, value in asdict(self).items() if name != "error" or value}


def run(config: IngestConfig, spark: Session | None = None) -> dict[str, Any]:
    """Ingest, or only verify what was ingested, and return the summary; a session is opened only if needed.

    Raises InputError if a path does not exist or holds no slices, ConfigError if the lake has another layout,
    LockLostError if another run took the lake over.
    """
    home = canonical(config.lake)
    if config.verify:
        return _verify(home, spark)
    pattern = scan_pattern(config.scan_pattern)
    clinical = read_clinical(canonical(config.clinical), SCANS.names) if config.clinical else None
    patient_list = read_patients(canonical(config.patients)) if config.patients else _stored_patients(home)
    discovery = find_scans(config.raw, list_raw(config.raw), pattern, patients=patient_list, own=[home])
    _warn_of_unused(patient_list, discovery)
    start = datetime.now(UTC)
    job_id = f"ingest-{start:%Y%m%dT%H%M%S}-{uuid.uuid4().hex[:6]}"
    with sole_writer(home, job_id) as fence:
        writer = LakeWriter(fence, config.bucket, job_id, start)
        _open(home, config, pattern, patient_list)
        tables = read_published(home)
        commits = list_commits(Lake(home).commits, COMMIT_SUFFIX)
        plan = _plan(discovery.scans, commits, read_commits(commits, tables), config.retry_quarantined)
        log.info(
            "%d scans found, %d to read, %d unchanged",
            len(discovery.scans),
            len(plan.to_read),
            len(plan.standing),
        )
        outcome = _read_new(spark, writer, plan, config.max_pixels)
        if config.prune:
            for commit in plan.orphans:
                fence.remove(commit.uri)
        unread = plan.standing if config.prune else (*plan.standing, *plan.orphan_rows)
        earlier = _earlier_states(home, outcome.failures, plan)
        outside = [QuarantineRow.of(problem, job_id, writer.started) for problem in discovery.problems]
        content = LakeContent.of([*outcome.commits, *unread, *earlier], outside)
        clinical = clinical or tables.clinical
        publish(fence, content, content.profile(discovery, clinical), clinical)
        leftovers = content.remove_leftovers(fence)
    return _summary(config, discovery, plan, outcome, content, clinical, leftovers).line()


def runs_here(tasks: Sequence[ScanTask]) -> bool:
    """Whether a run without a session reads these scans in this process, because Spark would cost more.

    So it is up to `HERE_BYTES` bytes, unless spark-submit started this process, or SLICEMILL_MASTER names
    another place to work. The lake's content is the same either way.
    """
    return not spark_requested() and sum(task.size for task in tasks) <= HERE_BYTES


def _read_new(spark: Session | None, writer: LakeWriter, plan: IngestPlan, max_pixels: int) -> IngestOutcome:
    if not plan.to_read:
        return IngestOutcome()
    if spark is None and runs_here(plan.to_read):
        return ingest_in_this_process(writer, plan.to_read, plan.replaced, max_pixels)
    from slicemill.spark.ingest import ingest_scans
    from slicemill.spark.session import given_or_new

    with given_or_new(spark, "ingest") as session:
        return ingest_scans(session, writer, plan.to_read, plan.replaced, max_pixels)


def _verify(home: Uri, spark: Session | None) -> dict[str, Any]:
    """Compare raw files and the lake's data with the commits; the status falls short if one differs."""
    require_lake(home)
    commits = list_commits(Lake(home).commits, COMMIT_SUFFIX)
    checks = _checks(spark, home, [commit.uri for commit in commits])
    counts = {"verified_scans": len(checks), "verified_files": sum(check.files for check in checks)}
    return verification("ingest", counts, checks, _NAMED)


def _checks(spark: Session | None, home: Uri, commits: Sequence[Uri]) -> list[CommitCheck]:
    if spark is None and not spark_requested() and len(commits) <= _HERE_COMMITS:
        return [check_commit(home, commit) for commit in commits]
    from slicemill.spark.ingest import check_commits
    from slicemill.spark.session import given_or_new

    with given_or_new(spark, "verify") as session:
        return check_commits(session, home, commits)


def _earlier_states(home: Uri, failures: Sequence[ScanFailure], plan: IngestPlan) -> list[ScanCommit]:
    """Rows of scans that failed before anything of their earlier state was replaced: that state stands."""
    if not failures:
        return []
    committed = {commit.uri for commit in list_commits(Lake(home).commits, COMMIT_SUFFIX)}
    states = [plan.replaced.get(failure.scan_id, ()) for failure in failures]
    return [plan.replaced_rows[uris[0]] for uris in states if len(uris) == 1 and uris[0] in committed]


def _stored_patients(home: Uri) -> dict[str, str]:
    """The list of patients that an earlier run was given."""
    uri = Lake(home).patients
    return dict(storage.read_json(uri)) if storage.exists(uri) else {}


def _open(home: Uri, config: IngestConfig, pattern: re.Pattern[str], patient_list: Mapping[str, str]) -> None:
    open_lake(home, config.bucket, pattern)
    if config.patients:
        storage.write_json(Lake(home).patients, patient_list)


def _warn_of_unused(patient_list: Mapping[str, str], discovery: Discovery) -> None:
    unused = sorted(patient_list.keys() - {scan.scan_id for scan in discovery.scans})
    if unused:
        log.warning("%d scans of the list of patients have no folder: %s", len(unused), _some(unused))


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:_NAMED]) + (" and more" if len(names) > _NAMED else "")


def _plan(
    scans: Sequence[ScanTask], commits: Sequence[Commit], rows: Sequence[ScanCommit], retry_quarantined: bool
) -> IngestPlan:
    row_of = {commit.uri: row for commit, row in zip(commits, rows, strict=True)}
    earlier = by_scan(list(commits))
    to_read, standing = [], []
    replaced: dict[str, tuple[Uri, ...]] = {}
    for task in scans:
        old = earlier.get(task.scan_id, [])
        stands = len(old) == 1 and _stands(old[0], row_of[old[0].uri], task)
        if stands and not (retry_quarantined and row_of[old[0].uri].quarantine):
            standing.append(row_of[old[0].uri])
            continue
        to_read.append(task)
        replaced[task.scan_id] = tuple(commit.uri for commit in old)
    present = {task.scan_id for task in scans}
    orphans = tuple(commit for commit in commits if commit.scan_id not in present)
    orphan_rows = tuple(row_of[commit.uri] for commit in orphans)
    replaced_rows = {uri: row_of[uri] for uris in replaced.values() for uri in uris}
    return IngestPlan(tuple(to_read), replaced, replaced_rows, tuple(standing), orphans, orphan_rows)


def _stands(commit: Commit, row: ScanCommit, task: ScanTask) -> bool:
    """Whether a commit is of these files, and of this patient."""
    same_patient = row.scan is None or row.scan.patient_id == task.patient_id
    return commit.key == task.fingerprint and same_patient


def _summary(
    config: IngestConfig,
    discovery: Discovery,
    plan: IngestPlan,
    outcome: IngestOutcome,
    content: LakeContent,
    clinical: Clinical,
    leftovers: int,
) -> IngestSummary:
    status, error = _status(config, discovery, outcome, content)
    bare = [row for row in content.scans if not row.labelled_slices]
    _warn_of_doubts(content.scans)
    return IngestSummary(
        status,
        scans=len(content.scans),
        slices=sum(row.slices for row in content.scans),
        tumour_slices=sum(row.tumour_slices for row in content.scans),
        quarantined=len(content.quarantine),
        skipped_unchanged=len(plan.standing),
        read=len(outcome.commits),
        failed=len(outcome.failures),
        gone=len(plan.orphans),
        pruned=len(plan.orphans) if config.prune else 0,
        leftovers=leftovers,
        ignored_files=sum(discovery.ignored.values()),
        other_formats=sum(sum(places.values()) for places in discovery.other_formats.values()),
        unmatched_folders=len(discovery.unmatched),
        unlabelled_scans=len(bare),
        unlabelled_slices=sum(unlabelled(content.scans).values()),
        implausible_masks=sum(len(row.implausible_masks or ()) for row in content.scans),
        clinical_patients=_joined(content, clinical),
        lake=display(canonical(config.lake)),
        error=error,
    )


def _warn_of_doubts(scans: Sequence[ScanRow]) -> None:
    doubtful = [row.scan_id for row in scans if row.doubts]
    if doubtful:
        log.warning(
            "%d scans have implausible masks, saturation or lost contrast, see profile.json: %s",
            len(doubtful),
            _some(doubtful),
        )


def _status(
    config: IngestConfig, discovery: Discovery, outcome: IngestOutcome, content: LakeContent
) -> tuple[str, str | None]:
    fresh = outcome.commits
    if outcome.failures:
        names = _some(sorted(failure.scan_id for failure in outcome.failures))
        return "failed", f"{len(outcome.failures)} scans could not be ingested: {names}; see standard error"
    if not content.scans:
        return "failed", "no slice can be used: every file was set aside; see the lake's quarantine"
    if fresh and not any(commit.scan for commit in fresh):
        return "data_short", f"none of the {len(fresh)} scans that were read has a usable slice"
    short = len(content.quarantine) > config.max_bad_fraction * discovery.files
    return "data_short" if short else "done", None


def _joined(content: LakeContent, clinical: Clinical) -> int | None:
    if not clinical.fields:
        return None
    patients = {row.patient_id for row in content.scans}
    matches = len(clinical.by_patient(patients))
    if matches < _FEW_JOINS * len(patients):
        log.warning(
            "only %d of %d patients are in the clinical table's %d rows; profile.json names the rest",
            matches,
            len(patients),
            len(clinical.rows),
        )
    return matches
