"""Run ingest's tasks on the workers: each reads, checks, profiles, writes and commits its scans itself.

Pixels never pass through the JVM and nothing is shuffled; a worker returns one small commit a scan.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from pyspark.sql import SparkSession

from slicemill.core.scans.discovery import ScanTask, pack
from slicemill.io.lake.check import CommitCheck, check_commit
from slicemill.io.lake.scan_ingest import IngestOutcome, ScanResult, commit_or_failure
from slicemill.io.lake.writer import LakeWriter
from slicemill.io.process_memory import reuse_freed_memory
from slicemill.spark.progress import progress
from slicemill.spark.session import parts_for
from slicemill.types import Uri

#: Bytes that one Spark task reads, about a thousand slices of the public data set.
BYTES_PER_TASK = 256 << 20
#: Commits that one Spark task checks.
COMMITS_PER_TASK = 50


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
    ) -> Iterator[ScanResult]:
        reuse_freed_memory()
        for share in partition:
            for task, earlier in share:
                yield commit_or_failure(task, writer, max_pixels, earlier)

    with progress(spark.sparkContext, "ingest", len(work)):
        results = spark.sparkContext.parallelize(work, len(work)).mapPartitions(run).collect()
    return IngestOutcome.of(results)


def check_commits(spark: SparkSession, home: Uri, commits: Sequence[Uri]) -> list[CommitCheck]:
    """Compare the files that commits vouch for with their hashes; see `check_commit`."""
    parts = parts_for(spark, len(commits), len(commits), COMMITS_PER_TASK)
    with progress(spark.sparkContext, "verify", parts):
        work = spark.sparkContext.parallelize(list(commits), parts)
        return work.map(lambda commit: check_commit(home, commit)).collect()
