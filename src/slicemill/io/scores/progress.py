"""Say where a scoring run is, by what its manifest holds: the same on one machine and on a cluster."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from slicemill.errors import SlicemillError
from slicemill.io.scores.source import ScoreTask
from slicemill.io.scores.tables import entries
from slicemill.io.storage.uri import is_s3
from slicemill.types import Uri

log = logging.getLogger(__name__)

#: Seconds between two lines; in S3 each costs a request a thousand entries.
_DISK_SECONDS, _S3_SECONDS = 5.0, 15.0
#: Times as long as a look took until the next: all looks together must not grow as the square of the scans.
_REST = 30.0


@contextmanager
def scoring_progress(home: Uri, tasks: Sequence[ScoreTask]) -> Iterator[None]:
    """Log every few seconds how many scans and slices are scored, how fast, and how long it will take."""
    stop = threading.Event()
    watcher = threading.Thread(target=_watch, args=(home, tasks, stop), daemon=True)
    watcher.start()
    try:
        yield
    finally:
        stop.set()
        watcher.join()


def _watch(home: Uri, tasks: Sequence[ScoreTask], stop: threading.Event) -> None:
    start = time.monotonic()
    pause = least = _S3_SECONDS if is_s3(home) else _DISK_SECONDS
    while not stop.wait(pause):
        look = time.monotonic()
        try:
            finished = {(commit.scan_id, commit.key) for commit in entries(home)}
        except (SlicemillError, OSError):
            continue  # the run itself says what is wrong with storage
        scored = [task for task in tasks if (task.scan_id, task.key) in finished]
        log.info("%s", progress_line(scored, tasks, time.monotonic() - start))
        pause = max(least, _REST * (time.monotonic() - look))


def progress_line(scored: Sequence[ScoreTask], tasks: Sequence[ScoreTask], seconds: float) -> str:
    """Scans, slices, rate and time left in words; the rate is over all `seconds`, start-up included."""
    finished, slices = sum(task.slices for task in scored), sum(task.slices for task in tasks)
    line = f"{len(scored)} of {len(tasks)} scans, {finished} of {slices} slices scored"
    if not finished:
        return line
    rate = finished / seconds
    remaining = (slices - finished) / rate
    return f"{line}, {rate:.1f} slices/s, about {_duration(remaining)} left"


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
