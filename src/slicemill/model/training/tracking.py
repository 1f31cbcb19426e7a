"""What a run tells while it trains, besides metrics.jsonl: MLflow, TensorBoard and PNGs, each by option.

The training loop knows `run_trackers` alone. What an interrupted run told of epochs that come again is told
again: the same numbers, since a resumed run goes on bit for bit.
"""

from __future__ import annotations

import dataclasses
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import numpy as np
import psutil
import torch

from slicemill.core.training.plan import TrainPlan
from slicemill.core.training.records import EpochLine
from slicemill.core.training.state import RunState
from slicemill.errors import MachineError
from slicemill.io.places import Run
from slicemill.io.run.rank_files import write_bytes
from slicemill.io.run.tracking_store import RunEntry, TrackedRun
from slicemill.io.storage.uri import display, is_s3, join, local_path, stored_uri
from slicemill.model.loading.loader import LabelledSlice
from slicemill.model.predicting.predictor import probabilities
from slicemill.model.training.learner import Learner
from slicemill.model.training.pictures import draw_curves, draw_examples, example_slices
from slicemill.types import SliceMask, Uri


class Tracker(Protocol):
    """A place that a run's numbers go to."""

    def epoch(self, state: RunState) -> None:
        """Take what is known after an epoch."""

    def close(self, finished: bool) -> None:
        """Take note of the end."""


@contextmanager
def run_trackers(learner: Learner, start: RunState) -> Iterator[Callable[[RunState], None]]:
    """Gives what the loop calls after each epoch, on every rank; rank 0 tells what its settings ask for.

    `start`: where the run begins or goes on. Raises MachineError if a package is not installed.
    """
    if not learner.rank.first:
        yield lambda state: None
        return
    trackers, finished = _trackers(learner, start), False

    def tell(state: RunState) -> None:
        for tracker in trackers:
            tracker.epoch(state)

    try:
        yield tell
        finished = True
    finally:
        for tracker in trackers:
            tracker.close(finished)


def _trackers(learner: Learner, start: RunState) -> list[Tracker]:
    settings = learner.plan.settings
    trackers: list[Tracker] = []
    # Figures first: MLflow takes copies of them.
    if settings.figures:
        trackers.append(FigureTracker(learner))
    if settings.track:
        trackers.append(MlflowTracker(learner.plan))
    if settings.tensorboard:
        trackers.append(TensorBoardTracker(learner, start.epochs_done))
    return trackers


def numbers(line: EpochLine) -> dict[str, float]:
    """The numbers of a line of metrics.jsonl by name, those of single scans as <name>/<scan>."""
    by_name: dict[str, float] = {}
    for name, value in line.to_json().items():
        for key, number in value.items() if isinstance(value, Mapping) else [("", value)]:
            if isinstance(number, int | float) and name != "epoch":
                by_name[f"{name}/{key}" if key else name] = float(number)
    return by_name


def machine_numbers() -> dict[str, float]:
    """What the process takes of its machine at this moment, by name."""
    process = psutil.Process()
    values = {
        "system/memory_mb": process.memory_info().rss / 1e6,
        "system/cpu_seconds": sum(process.cpu_times()[:2]),
    }
    if torch.cuda.is_available():
        values["system/gpu_memory_mb"] = torch.cuda.max_memory_allocated() / 1e6
    return values


class FigureTracker:
    """PNGs in the run's folder, drawn anew when an epoch is the best so far and after the schedule's last."""

    def __init__(self, learner: Learner) -> None:
        self._learner = learner
        self._out = Run.of(learner.plan).home
        self._examples: list[LabelledSlice] | None = None
        self._history: Sequence[EpochLine] = ()

    def epoch(self, state: RunState) -> None:
        """Draw, if this epoch is the best so far or the last, which as a rule is published."""
        self._history = state.history
        if state.leading_epoch != state.epochs_done and state.progress < 1:
            return
        self._draw_curves()
        if self._learner.plan.settings.task == "segment":
            self._draw_examples(state)

    def _draw_examples(self, state: RunState) -> None:
        if self._examples is None:
            self._examples = example_slices(self._learner.plan)
        if self._examples:
            masks = [self._predicted(entry, state.history[-1].image_size) for entry in self._examples]
            picture = draw_examples(self._examples, masks, f"Epoch {state.epochs_done}")
            write_bytes(self._learner.plan, Run(self._out).examples(state.epochs_done), picture)

    def _predicted(self, entry: LabelledSlice, size: int) -> SliceMask:
        learner = self._learner
        scales = np.asarray([learner.plan.normalisation[entry.scan_id]], dtype=np.float32)
        network = learner.published.eval()
        (probability,) = probabilities(
            network,
            entry.image[None],
            scales,
            size,
            learner.rank.device,
            learner.execution.precision,
        )
        network.train()
        predicted: SliceMask = (probability >= learner.plan.settings.threshold).view(np.uint8)
        return predicted

    def _draw_curves(self) -> None:
        write_bytes(self._learner.plan, Run(self._out).curves, draw_curves(self._history))

    def close(self, finished: bool) -> None:
        """Draw the curves of the whole run."""
        if self._history:
            self._draw_curves()


class MlflowTracker:
    """One run in an MLflow store, a local SQLite file or a server; a resumed run goes on in its own."""

    def __init__(self, plan: TrainPlan) -> None:
        settings = plan.settings
        self._out = out = stored_uri(settings.out)
        places = {"out": display(out), "lake": display(stored_uri(settings.lake))}
        entry = RunEntry(
            str(settings.track),
            settings.experiment,
            (None if plan.parent else settings.run_name) or _name(out),
            Run(out).tracking,
            {**dataclasses.asdict(settings), **places},
            plan.parent,
        )
        self._run = TrackedRun.begin(entry, "--track", resume=settings.resume)

    def epoch(self, state: RunState) -> None:
        """Log the epoch's numbers under its number."""
        from mlflow.entities import Metric

        line, now = state.history[-1], int(time.time() * 1000)
        self._run.client.log_batch(
            self._run.run_id,
            metrics=[
                Metric(name, value, now, line.epoch)
                for name, value in {**numbers(line), **machine_numbers()}.items()
            ],
        )
        if state.leading_epoch == state.epochs_done:
            # Drawn before: figures come first among the trackers.
            self._run.log_files([Run(self._out).examples(line.epoch)], "figures")

    def close(self, finished: bool) -> None:
        """Mark the run as finished or failed."""
        self._run.end(finished)


def _name(out: Uri) -> str:
    """What a run is called by its folder: of fold-0/run, the fold."""
    *_, before, last = out.rstrip("/").split("/")
    return before if last == "run" and before else last


class TensorBoardTracker:
    """Event files in the run's folder; those of a run in S3 are put there whole after every epoch."""

    def __init__(self, learner: Learner, epochs_done: int) -> None:
        try:
            from torch.utils.tensorboard.writer import SummaryWriter
        except ImportError as error:
            raise _missing_package("--tensorboard", "tensorboard") from error
        self._learner = learner
        self._out = out = Run.of(learner.plan).home
        self._local = Path(tempfile.mkdtemp()) if is_s3(out) else local_path(Run(out).tensorboard)
        # What an earlier start told of the epochs that come again is void.
        self._writer = SummaryWriter(str(self._local), purge_step=epochs_done + 1)

    def epoch(self, state: RunState) -> None:
        """Write the epoch's numbers under its number."""
        line = state.history[-1]
        for name, value in numbers(line).items():
            self._writer.add_scalar(name, value, line.epoch)
        self._layers(line.epoch)
        self._writer.flush()
        if is_s3(self._out):
            for path in self._local.iterdir():
                place = join(Run(self._out).tensorboard, path.name)
                write_bytes(self._learner.plan, place, path.read_bytes())

    def _layers(self, epoch: int) -> None:
        """Each layer's weights as a histogram, and its gradient's norm at the last step, after clipping."""
        for name, weights in self._learner.network.named_parameters():
            self._writer.add_histogram(f"weights/{name}", weights.detach().float().cpu(), epoch)
            if weights.grad is not None:
                self._writer.add_scalar(f"gradient_norm/{name}", float(weights.grad.float().norm()), epoch)

    def close(self, finished: bool) -> None:
        """Close the file."""
        self._writer.close()


def _missing_package(flag: str, package: str) -> MachineError:
    return MachineError(
        f"{flag} needs a package that is not installed",
        expected=package,
        found="none",
        advice="pip install 'slicemill[track]', on every worker.",
    )
