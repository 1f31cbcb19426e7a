"""Score scans on the workers by `mapInPandas`: a row in is one scan to score, a row out is what became of it.

Only task records pass through the JVM. A worker reads its scans' bytes itself and loads the model once; it
reads the next scan and writes the last one while the network runs.
"""

from __future__ import annotations

import logging
import pickle
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from pyspark import TaskContext
from pyspark.sql import SparkSession

from slicemill.core.balance import balanced
from slicemill.core.scans.scan import Scan
from slicemill.errors import MachineError, ModelFileError, SlicemillError
from slicemill.io import storage
from slicemill.io.scores.check import EntryCheck, check_entry
from slicemill.io.scores.source import ScoreTask
from slicemill.io.scores.writer import ScoreWriter
from slicemill.model.predicting.batches import Prediction
from slicemill.model.predicting.predictor import Predictor
from slicemill.model.predicting.scoring import predictions, scan_output
from slicemill.model.predicting.settings import ScoreSettings, loaded
from slicemill.spark.progress import progress
from slicemill.spark.session import parts_for
from slicemill.spark.worker import reuse_freed_memory
from slicemill.types import Uri

log = logging.getLogger(__name__)

#: Scans that one Spark task scores: minutes on a CPU.
SCANS_PER_TASK = 20
#: Manifest entries that one Spark task checks.
ENTRIES_PER_TASK = 200

#: What became of a scan; a worker that lacks its device or model stops.
SCORED, CHANGED, FAILED, STOPPED = "scored", "changed", "failed", "stopped"

Result = tuple[str, str, str | None]
_RESULT = "scan_id string, state string, reason string"


def score_scans(
    spark: SparkSession,
    tasks: Sequence[ScoreTask],
    settings: ScoreSettings,
    writer: ScoreWriter,
    max_pixels: int,
) -> dict[str, str]:
    """Score and commit every task; return what became of each, by scan id. The manifest is the result.

    Raises MachineError for a device that a worker lacks, or a model that it can't load.
    """
    if not tasks:
        return {}
    parts = parts_for(spark, len(tasks), len(tasks), SCANS_PER_TASK)
    ordered = sorted(tasks, key=lambda task: (-task.size, task.scan_id))
    shares = [
        [(pickle.dumps(task),) for task in share]
        for share in balanced(ordered, lambda task: task.size + 1, parts)
    ]
    rows = spark.sparkContext.parallelize(shares, parts).flatMap(lambda share: share)

    def run(batches: Iterable[Any]) -> Iterator[Any]:
        import pandas as pd

        reuse_freed_memory()
        for row in _Worker(settings, writer, max_pixels).score(_records(batches)):
            yield pd.DataFrame([row], columns=["scan_id", "state", "reason"])

    frame = spark.createDataFrame(rows, "task binary")
    with progress(spark.sparkContext, "score", parts):
        results = frame.mapInPandas(run, _RESULT).collect()
    for row in results:
        if row["state"] == STOPPED:
            raise MachineError("a worker can't score", found=row["reason"].rstrip("."))
        if row["state"] == FAILED:
            log.error("%s: %s", row["scan_id"], row["reason"])
    return {row["scan_id"]: row["state"] for row in results}


def check_entries(spark: SparkSession, home: Uri, entries: Sequence[Uri]) -> list[EntryCheck]:
    """Compare the outputs of manifest entries with their hashes; see `check_entry`."""
    parts = parts_for(spark, len(entries), len(entries), ENTRIES_PER_TASK)
    work = spark.sparkContext.parallelize(list(entries), parts)
    with progress(spark.sparkContext, "verify", parts):
        return work.map(lambda entry: check_entry(home, entry)).collect()


def _records(batches: Iterable[Any]) -> Iterator[ScoreTask]:
    for batch in batches:
        for record in batch["task"]:
            # From our own driver through Spark, as the closure around it is; nothing stored is unpickled.
            task: ScoreTask = pickle.loads(record)  # noqa: S301
            yield task


def _gpu() -> int:
    """The GPU that Spark gave this task; without Spark's resource API tasks take GPUs in turn."""
    context = TaskContext.get()
    if context is None:
        return 0
    given = context.resources().get("gpu")
    return int(given.addresses[0]) if given else context.partitionId()


@dataclass(frozen=True)
class _Worker:
    """One Spark task at work: a thread reads ahead, a thread writes behind, this one predicts."""

    settings: ScoreSettings
    writer: ScoreWriter
    max_pixels: int

    def score(self, tasks: Iterable[ScoreTask]) -> Iterator[Result]:
        """Scan id, state and reason of each task."""
        try:
            predictor = loaded(self.settings, _gpu())
        except (MachineError, ModelFileError) as error:
            # Not the task's fault: to try it elsewhere would only bury the reason under traces.
            yield "", STOPPED, str(error)
            return
        set_aside: list[Result] = []
        with ThreadPoolExecutor(1) as reader, ThreadPoolExecutor(1) as behind:
            writes: deque[Future[str]] = deque()
            scans = self._ahead(reader, tasks, set_aside)
            for task, scan, prediction in predictions(scans, predictor, self.settings):
                writes.append(behind.submit(self._write, task, scan, prediction, predictor))
                if len(writes) > 1:
                    yield writes.popleft().result(), SCORED, None
            for write in writes:
                yield write.result(), SCORED, None
        yield from set_aside

    def _ahead(
        self, reader: ThreadPoolExecutor, tasks: Iterable[ScoreTask], set_aside: list[Result]
    ) -> Iterator[tuple[ScoreTask, Scan]]:
        """Each task with its scan, the next one being read while the caller works on this one.

        A scan that changed while it was read is set aside, and so are one that can't be read and one that is
        finished already.
        """
        waiting: deque[tuple[ScoreTask, Future[Scan | None]]] = deque()

        def first() -> Iterator[tuple[ScoreTask, Scan]]:
            task, read = waiting.popleft()
            try:
                scan = read.result()
            except (SlicemillError, OSError) as error:
                # What does not answer for one scan may for the next; this one is left for another run.
                set_aside.append((task.scan_id, FAILED, str(error)))
                return
            if scan is None:
                set_aside.append((task.scan_id, CHANGED, None))
            else:
                yield task, scan

        for task in tasks:
            if self._finished_before(task):
                set_aside.append((task.scan_id, SCORED, None))
                continue
            waiting.append((task, reader.submit(task.source.read, self.max_pixels)))
            if len(waiting) > 1:
                yield from first()
        while waiting:
            yield from first()

    def _finished_before(self, task: ScoreTask) -> bool:
        """Whether an earlier attempt of this Spark task, lost on its way, finished the scan."""
        context = TaskContext.get()
        again = context is not None and context.attemptNumber() > 0
        return again and storage.exists(self.writer.entry_uri(task.scan_id, task.key))

    def _write(self, task: ScoreTask, scan: Scan, prediction: Prediction, predictor: Predictor) -> str:
        output = scan_output(scan, prediction, predictor.card, self.settings)
        self.writer.write(output, task.fingerprint, task.key, task.stale)
        return task.scan_id
