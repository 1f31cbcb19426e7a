"""Score scans on the workers by `mapInPandas`: a row in is one scan to score, a row out is one that is done.

Only task records pass through the JVM. A worker reads its scans' bytes itself, loads the model once, and
reads the next scan while the network runs on this one.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from pyspark.sql import SparkSession

from slicemill.core.discovery import ScanTask
from slicemill.core.scan import Scan
from slicemill.io.lake_reader import read_lake_scan
from slicemill.io.scan_reader import read_scan
from slicemill.io.score_writer import ScoreWriter
from slicemill.model.scoring import ScoreSettings, score_scan
from slicemill.spark.progress import progress
from slicemill.spark.session import parts_for

#: Scans that one Spark task scores: minutes on a CPU.
SCANS_PER_TASK = 20


@dataclass(frozen=True)
class ScoreTask:
    """One scan to score: a raw scan, or a row of a lake's scans table."""

    scan_id: str
    fingerprint: str
    key: str
    stale: tuple[str, ...]
    size: int
    raw: ScanTask | None = None
    lake: str | None = None
    lake_row: dict[str, Any] | None = None

    def read(self, max_pixels: int) -> Scan:
        """The scan's checked slices."""
        if self.raw is not None:
            return read_scan(self.raw, max_pixels)
        if self.lake is None or self.lake_row is None:
            raise ValueError(f"{self.scan_id} has no source")
        return read_lake_scan(self.lake, self.lake_row)


def score_scans(
    spark: SparkSession,
    tasks: Sequence[ScoreTask],
    settings: ScoreSettings,
    writer: ScoreWriter,
    max_pixels: int,
) -> None:
    """Score and commit every task; the manifest is the result."""
    if not tasks:
        return
    parts = parts_for(spark, len(tasks), len(tasks), SCANS_PER_TASK)
    ordered = sorted(tasks, key=lambda task: (-task.size, task.scan_id))
    shares = [[(pickle.dumps(task),) for task in ordered[part::parts]] for part in range(parts)]
    rows = spark.sparkContext.parallelize(shares, parts).flatMap(lambda share: share)

    def run(batches: Iterable[Any]) -> Iterator[Any]:
        import pandas as pd

        with ThreadPoolExecutor(1) as reader:
            for task, scan in _ahead(reader, batches, max_pixels):
                writer.write(score_scan(scan, settings), task.fingerprint, task.key, task.stale)
                yield pd.DataFrame({"scan_id": [task.scan_id], "slices": [len(scan.slices)]})

    frame = spark.createDataFrame(rows, "task binary")
    with progress(spark.sparkContext, "score", parts):
        frame.mapInPandas(run, "scan_id string, slices long").collect()


def _ahead(
    reader: ThreadPoolExecutor, batches: Iterable[Any], max_pixels: int
) -> Iterator[tuple[ScoreTask, Scan]]:
    """Each task with its scan, the next one being read while the caller works on this one."""
    waiting: tuple[ScoreTask, Future[Scan]] | None = None
    for batch in batches:
        for record in batch["task"]:
            # From our own driver through Spark, as the closure around it is; nothing stored is unpickled.
            task: ScoreTask = pickle.loads(record)  # noqa: S301
            following = (task, reader.submit(task.read, max_pixels))
            if waiting:
                yield waiting[0], waiting[1].result()
            waiting = following
    if waiting:
        yield waiting[0], waiting[1].result()
