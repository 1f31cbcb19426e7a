"""Show how many tasks of a Spark job are done: a bar on a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from pyspark import SparkContext
from tqdm import tqdm

log = logging.getLogger(__name__)

_POLL_SECONDS = 1.0
_LINE_SECONDS = 15.0


@contextmanager
def progress(context: SparkContext, name: str, total: int) -> Iterator[None]:
    """Show the progress of the jobs that this thread starts inside the block; `total` tasks are expected."""
    group = f"slicemill-{name}-{time.monotonic_ns()}"
    context.setJobGroup(group, name)
    stop = threading.Event()
    watcher = threading.Thread(target=_watch, args=(context, group, name, total, stop), daemon=True)
    watcher.start()
    try:
        yield
    finally:
        stop.set()
        watcher.join()
        context.setLocalProperty("spark.jobGroup.id", None)  # type: ignore[arg-type]  # None clears it


def _done(context: SparkContext, group: str) -> int:
    tracker = context.statusTracker()
    count = 0
    for job in tracker.getJobIdsForGroup(group):
        info = tracker.getJobInfo(job)
        for stage in info.stageIds if info else ():
            stage_info = tracker.getStageInfo(stage)
            count += stage_info.numCompletedTasks if stage_info else 0
    return count


def _watch(context: SparkContext, group: str, name: str, total: int, stop: threading.Event) -> None:
    on_terminal = sys.stderr.isatty()
    last_line = time.monotonic()
    with tqdm(total=total, desc=name, unit="task", disable=not on_terminal, file=sys.stderr) as bar:
        while not stop.wait(_POLL_SECONDS):
            count = _done(context, group)
            bar.update(count - bar.n)
            if not on_terminal and time.monotonic() - last_line >= _LINE_SECONDS:
                last_line = time.monotonic()
                log.info("%s: %d of %d tasks done", name, count, total)
