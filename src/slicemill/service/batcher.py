"""One thread that predicts what requests bring: those that wait together share forward passes."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Sequence
from concurrent.futures import Future

from slicemill.core.scans.scan import Scan
from slicemill.io.scores.writer import ScanOutput
from slicemill.model.predicting.predictor import NetworkPredictor
from slicemill.model.predicting.scoring import predictions, scan_output
from slicemill.model.predicting.settings import ScoreSettings
from slicemill.service.metrics import Metrics

log = logging.getLogger(__name__)

_Job = tuple[Future[ScanOutput], Scan]


class Batcher:
    """Predicts scans in the order of their coming; nothing waits for a batch to fill."""

    def __init__(
        self, predictor: NetworkPredictor, settings: ScoreSettings, batch_size: int, metrics: Metrics
    ) -> None:
        self._predictor = predictor
        self._settings = settings
        self._batch_size = batch_size
        self._metrics = metrics
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="batcher", daemon=True)

    def start(self) -> None:
        """Begin to work."""
        self._thread.start()

    def stop(self) -> None:
        """Finish what was submitted, and end."""
        self._jobs.put(None)
        self._thread.join()

    @property
    def alive(self) -> bool:
        """Whether it works."""
        return self._thread.is_alive()

    def submit(self, scan: Scan) -> Future[ScanOutput]:
        """The scan's prediction, when it is there; a scan must have slices."""
        future: Future[ScanOutput] = Future()
        self._jobs.put((future, scan))
        return future

    def _run(self) -> None:
        while True:
            jobs, last = self._waiting()
            self._predict([job for job in jobs if job[0].set_running_or_notify_cancel()])
            if last:
                return

    def _waiting(self) -> tuple[list[_Job], bool]:
        """The next job and those that wait behind it, up to a batch of slices; whether they are the last."""
        jobs: list[_Job] = []
        while sum(len(scan.slices) for _, scan in jobs) < self._batch_size:
            try:
                job = self._jobs.get(block=not jobs)
            except queue.Empty:
                break
            if job is None:
                return jobs, True
            jobs.append(job)
        return jobs, False

    def _predict(self, jobs: Sequence[_Job]) -> None:
        if not jobs:
            return
        self._metrics.batch_slices.observe(sum(len(scan.slices) for _, scan in jobs))
        try:
            for future, scan, prediction in predictions(jobs, self._predictor, self._settings):
                by = self._predictor
                future.set_result(scan_output(scan, prediction, by.card, self._settings, by.engine.facts))
        except Exception as error:
            open_jobs = [job for job in jobs if not job[0].done()]
            log.error("a batch of %d requests failed: %s", len(open_jobs), type(error).__name__)
            if len(open_jobs) == 1:
                open_jobs[0][0].set_exception(error)
                return
            # One request must not fail another.
            for job in open_jobs:
                self._predict([job])
