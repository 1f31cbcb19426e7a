"""One process at work on scans: a thread reads ahead, a thread writes behind, this one predicts.

Spark runs it on its workers; a driver with little to do runs it by itself, a thread a core.
"""

from __future__ import annotations

import dataclasses
import os
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import lru_cache

from slicemill.core.balance import balanced
from slicemill.core.scans.scan import Scan
from slicemill.errors import ModelFileError, SlicemillError
from slicemill.io import storage
from slicemill.io.scores.source import CHANGED, FAILED, SCORED, ScanOutcome, ScoreTask
from slicemill.io.scores.writer import ScoreWriter
from slicemill.io.storage.uri import display
from slicemill.model.predicting.batches import Prediction
from slicemill.model.predicting.predictor import NetworkPredictor
from slicemill.model.predicting.scoring import predictions, scan_output
from slicemill.model.predicting.settings import ScoreSettings
from slicemill.types import Uri

#: Slices from which on a process without Spark tries batch sizes: fewer do not earn the trial's time.
TRIAL_PAYS = 300


def load_predictor(settings: ScoreSettings, gpu: int = 0) -> NetworkPredictor:
    """The predictor of this process, loaded once.

    Raises ModelFileError if the run holds another model than the settings name.
    """
    predictor = _load(
        settings.model,
        settings.model_id,
        settings.device,
        settings.precision,
        settings.threads,
        gpu,
        settings.engine,
    )
    if predictor.model_id != settings.model_id:
        raise ModelFileError(
            f"{display(settings.model)} was written again while it scored",
            expected=f"model {settings.model_id}",
            found=predictor.model_id,
            advice="Score again.",
        )
    return predictor


# By the id too: a worker outlives a job, and the next one may bring another model in the same place.
@lru_cache(maxsize=2)
def _load(
    model: Uri, model_id: str, device: str, precision: str, threads: int | None, gpu: int, engine: str
) -> NetworkPredictor:
    return NetworkPredictor.load(model, device, precision, threads, gpu, engine)


def score_in_this_process(
    tasks: Sequence[ScoreTask], settings: ScoreSettings, writer: ScoreWriter, max_pixels: int
) -> list[ScanOutcome]:
    """Score and commit every task on this machine's cores, without Spark.

    A thread a core predicts with one thread of torch, as a worker of Spark with one core does: the kernels,
    and so the bits, are the same. On a GPU one thread predicts. Raises ModelFileError or MachineError.
    """
    predictor = load_predictor(settings)
    if sum(task.slices for task in tasks) < TRIAL_PAYS:
        settings = dataclasses.replace(settings, batch_size=settings.batch_size or predictor.usual_batch_size)
    cores = 1 if predictor.device.type == "cuda" else len(os.sched_getaffinity(0))
    ordered = sorted(tasks, key=lambda task: (-task.size, task.scan_id))
    shares = [share for share in balanced(ordered, lambda task: task.size + 1, cores) if share]
    worker = ScoreWorker(settings, writer, max_pixels, predictor)
    with ThreadPoolExecutor(len(shares)) as pool:
        return [
            outcome
            for share in pool.map(lambda share: list(worker.score(share)), shares)
            for outcome in share
        ]


@dataclass(frozen=True)
class ScoreWorker:
    """Scores scans with one predictor. `repeated` says that an earlier attempt may have finished some."""

    settings: ScoreSettings
    writer: ScoreWriter
    max_pixels: int
    predictor: NetworkPredictor
    repeated: bool = False

    def score(self, tasks: Iterable[ScoreTask]) -> Iterator[ScanOutcome]:
        """Score and commit each task; what became of it, in any order."""
        reading = _ReadAhead(self, tasks)
        with ThreadPoolExecutor(1) as reader, ThreadPoolExecutor(1) as writer_thread:
            writes: deque[Future[ScanOutcome]] = deque()
            for task, scan, prediction in predictions(reading.scans(reader), self.predictor, self.settings):
                writes.append(writer_thread.submit(self._write, task, scan, prediction))
                if len(writes) > 1:
                    yield writes.popleft().result()
            for write in writes:
                yield write.result()
        yield from reading.set_aside

    def finished_before(self, task: ScoreTask) -> bool:
        """Whether an earlier attempt, lost on its way, finished the scan."""
        return self.repeated and storage.exists(self.writer.entry_uri(task.scan_id, task.key))

    def _write(self, task: ScoreTask, scan: Scan, prediction: Prediction) -> ScanOutcome:
        by = self.predictor
        output = scan_output(scan, prediction, by.card, self.settings, by.engine.facts)
        try:
            self.writer.write(output, task.fingerprint, task.key, task.stale)
        except (SlicemillError, OSError) as error:
            # What storage refuses for one scan it may take for the next; this one is left for another run.
            return ScanOutcome(task.scan_id, FAILED, str(error))
        return ScanOutcome(task.scan_id, SCORED)


@dataclass
class _ReadAhead:
    """Tasks with their scans, the next one being read while the caller works on this one.

    A scan that changed while it was read is set aside, and so are one that can't be read and one that is
    finished already.
    """

    worker: ScoreWorker
    tasks: Iterable[ScoreTask]
    set_aside: list[ScanOutcome] = field(default_factory=list)

    def scans(self, reader: ThreadPoolExecutor) -> Iterator[tuple[ScoreTask, Scan]]:
        """Each task with its scan, in their order."""
        waiting: deque[tuple[ScoreTask, Future[Scan | None]]] = deque()
        for task in self.tasks:
            if self.worker.finished_before(task):
                self.set_aside.append(ScanOutcome(task.scan_id, SCORED))
                continue
            waiting.append((task, reader.submit(task.read, self.worker.max_pixels)))
            if len(waiting) > 1:
                yield from self._first(waiting)
        while waiting:
            yield from self._first(waiting)

    def _first(
        self, waiting: deque[tuple[ScoreTask, Future[Scan | None]]]
    ) -> Iterator[tuple[ScoreTask, Scan]]:
        task, read = waiting.popleft()
        try:
            scan = read.result()
        except (SlicemillError, OSError) as error:
            # What does not answer for one scan may for the next; this one is left for another run.
            self.set_aside.append(ScanOutcome(task.scan_id, FAILED, str(error)))
            return
        if scan is None:
            self.set_aside.append(ScanOutcome(task.scan_id, CHANGED))
        else:
            yield task, scan
