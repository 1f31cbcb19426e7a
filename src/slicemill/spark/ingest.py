"""Run ingest's tasks on the workers: each reads, checks, profiles, writes and commits its scans itself.

Pixels never pass through the JVM and nothing is shuffled; a worker returns one small commit a scan. A scan
that can't be read or written now, for whatever reason, fails alone and has no commit. The next run reads it.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from pyspark.sql import SparkSession

from slicemill.core.profiles.scan_profile import ScanProfile
from slicemill.core.scans.discovery import ScanTask, pack
from slicemill.errors import SlicemillError
from slicemill.io.lake.check import CommitCheck, check_commit
from slicemill.io.lake.commits import ScanCommit
from slicemill.io.lake.writer import LakeWriter
from slicemill.io.process_memory import reuse_freed_memory
from slicemill.io.raw.scan_reader import read_scan
from slicemill.spark.progress import progress
from slicemill.spark.session import parts_for
from slicemill.types import Uri

log = logging.getLogger(__name__)

#: Bytes that one Spark task reads, about a thousand slices of the public data set.
BYTES_PER_TASK = 256 << 20
#: Commits that one Spark task checks.
COMMITS_PER_TASK = 50


@dataclass(frozen=True)
class ScanFailure:
    """A scan that has no commit, and why; the reason says nothing about its content."""

    scan_id: str
    reason: str


@dataclass(frozen=True)
class IngestOutcome:
    """What became of the scans of a run."""

    commits: tuple[ScanCommit, ...] = ()
    failures: tuple[ScanFailure, ...] = ()


_Result = ScanCommit | ScanFailure


def ingest_scan(task: ScanTask, writer: LakeWriter, max_pixels: int, stale: Sequence[Uri] = ()) -> ScanCommit:
    """Read, check, profile, write and commit one scan; `stale` are its earlier commits.

    Nothing of an earlier state is removed before the scan was read.
    """
    scan = read_scan(task, max_pixels)
    return writer.write(task, scan, ScanProfile(scan) if scan.slices else None, stale)


def ingest_scans(
    spark: SparkSession,
    writer: LakeWriter,
    tasks: Sequence[ScanTask],
    stale: Mapping[str, tuple[Uri, ...]],
    max_pixels: int,
) -> IngestOutcome:
    """Ingest `tasks` and say what became of each; `stale` are the commit URIs to replace, by scan id.

    Failures are logged.
    """
    size = sum(task.size for task in tasks)
    shares = pack(tasks, parts_for(spark, len(tasks), size, BYTES_PER_TASK))
    if not shares:
        return IngestOutcome()
    work = [[(task, stale.get(task.scan_id, ())) for task in share] for share in shares]

    def run(
        partition: Iterable[list[tuple[ScanTask, tuple[Uri, ...]]]],
    ) -> Iterator[ScanCommit | ScanFailure]:
        reuse_freed_memory()
        for share in partition:
            for task, earlier in share:
                yield _commit_or_failure(task, writer, max_pixels, earlier)

    with progress(spark.sparkContext, "ingest", len(work)):
        results = spark.sparkContext.parallelize(work, len(work)).mapPartitions(run).collect()
    failures = tuple(result for result in results if isinstance(result, ScanFailure))
    for failure in failures:
        log.error("%s: %s", failure.scan_id, failure.reason)
    return IngestOutcome(tuple(result for result in results if isinstance(result, ScanCommit)), failures)


def _commit_or_failure(task: ScanTask, writer: LakeWriter, max_pixels: int, stale: Sequence[Uri]) -> _Result:
    try:
        return ingest_scan(task, writer, max_pixels, stale).rows
    except SlicemillError as error:
        return ScanFailure(task.scan_id, str(error))
    except Exception as error:
        # What bad content raises is caught where it is decoded: this is the machine's fault, or ours.
        return ScanFailure(task.scan_id, f"{type(error).__name__}: {error}")


def check_commits(spark: SparkSession, home: Uri, commits: Sequence[Uri]) -> list[CommitCheck]:
    """Compare the files that commits vouch for with their hashes; see `check_commit`."""
    parts = parts_for(spark, len(commits), len(commits), COMMITS_PER_TASK)
    with progress(spark.sparkContext, "verify", parts):
        work = spark.sparkContext.parallelize(list(commits), parts)
        return work.map(lambda commit: check_commit(home, commit)).collect()
