"""Run ingest's tasks on the workers: each reads, checks, profiles, writes and commits its scans itself.

Pixels never pass through the JVM and nothing is shuffled; a worker returns one small commit a scan.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from pyspark.sql import SparkSession

from slicemill.core.profiles.scan_profile import ScanProfile
from slicemill.core.scans.discovery import ScanTask, pack
from slicemill.io.lake.commits import ScanCommit
from slicemill.io.lake.writer import LakeWriter
from slicemill.io.raw.scan_reader import read_scan
from slicemill.spark.progress import progress
from slicemill.spark.session import parts_for
from slicemill.spark.worker import reuse_freed_memory
from slicemill.types import Uri

#: Bytes that one Spark task reads, about a thousand slices of the public data set.
BYTES_PER_TASK = 256 << 20


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
) -> list[ScanCommit]:
    """Ingest `tasks` and return their commits; `stale` are the commit URIs to replace, by scan id."""
    size = sum(task.size for task in tasks)
    shares = pack(tasks, parts_for(spark, len(tasks), size, BYTES_PER_TASK))
    if not shares:
        return []
    work = [[(task, stale.get(task.scan_id, ())) for task in share] for share in shares]

    def run(partition: Iterable[list[tuple[ScanTask, tuple[Uri, ...]]]]) -> Iterator[ScanCommit]:
        reuse_freed_memory()
        for share in partition:
            for task, earlier in share:
                yield ingest_scan(task, writer, max_pixels, earlier)

    with progress(spark.sparkContext, "ingest", len(work)):
        return spark.sparkContext.parallelize(work, len(work)).mapPartitions(run).collect()
