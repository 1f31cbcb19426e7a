"""Score scans on the workers by `mapInPandas`: a row in is one scan to score, a row out is what became of it.

Only task records pass through the JVM. A worker reads its scans' bytes itself and loads the model once.
"""

from __future__ import annotations

import dataclasses
import pickle
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from pyspark import TaskContext
from pyspark.sql import SparkSession

from slicemill.core.balance import balanced
from slicemill.errors import MachineError, ModelFileError
from slicemill.io.process_memory import reuse_freed_memory
from slicemill.io.scores.check import EntryCheck, check_entry
from slicemill.io.scores.source import STOPPED, ScanOutcome, ScoreTask
from slicemill.io.scores.writer import ScoreWriter
from slicemill.model.predicting.settings import ScoreSettings
from slicemill.spark.progress import progress
from slicemill.spark.session import cores, parts_for
from slicemill.types import Uri

#: Scans that one Spark task scores: minutes on a CPU.
SCANS_PER_TASK = 20
#: Manifest entries that one Spark task checks.
ENTRIES_PER_TASK = 200

_OUTCOME = "scan_id string, state string, reason string"


def score_scans(
    spark: SparkSession,
    tasks: Sequence[ScoreTask],
    settings: ScoreSettings,
    writer: ScoreWriter,
    max_pixels: int,
) -> list[ScanOutcome]:
    """Score and commit every task; return what became of each. The manifest is the result.

    Raises MachineError for a device that a worker lacks, or a model that it can't load.
    """
    if not tasks:
        return []
    slots = int(spark.conf.get("spark.task.cpus", "1") or 1)
    settings = dataclasses.replace(settings, threads=slots if cores(spark) > 1 else None)
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
        for outcome in _outcomes(settings, writer, max_pixels, _records(batches)):
            yield pd.DataFrame([vars(outcome)])

    frame = spark.createDataFrame(rows, "task binary")
    outcomes = [ScanOutcome(**row.asDict()) for row in frame.mapInPandas(run, _OUTCOME).collect()]
    for outcome in outcomes:
        if outcome.state == STOPPED:
            raise MachineError("a worker can't score", found=(outcome.reason or "").rstrip("."))
    return outcomes


def _outcomes(
    settings: ScoreSettings, writer: ScoreWriter, max_pixels: int, tasks: Iterable[ScoreTask]
) -> Iterator[ScanOutcome]:
    # On the worker alone: the driver does without torch.
    from slicemill.model.predicting.worker import ScoreWorker, load_predictor

    try:
        predictor = load_predictor(settings, _gpu())
    except (MachineError, ModelFileError) as error:
        # Not the task's fault: to try it elsewhere would only bury the reason under traces.
        yield ScanOutcome("", STOPPED, str(error))
        return
    context = TaskContext.get()
    repeated = context is not None and context.attemptNumber() > 0
    yield from ScoreWorker(settings, writer, max_pixels, predictor, repeated).score(tasks)


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
    gpu = context.resources().get("gpu")
    return int(gpu.addresses[0]) if gpu else context.partitionId()
