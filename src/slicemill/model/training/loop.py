"""One training epoch: batches from the lake, steps, and the count of what was read."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from slicemill.core.training.labels import random_label
from slicemill.core.training.schedule import Span
from slicemill.errors import TrainingError
from slicemill.model.input import to_network_input, to_network_mask
from slicemill.model.loading.device_slices import IndexedEpoch
from slicemill.model.loading.loader import EpochCount, EpochLoader
from slicemill.model.loading.stacked import StackedBatch, StackedEpoch
from slicemill.model.training.learner import Learner
from slicemill.model.training.ranks import Rank, all_reduce_sum
from slicemill.model.training.step import NetworkBatch, StepLog, take_step

log = logging.getLogger(__name__)

#: Seconds between two bars.
EVERY = 15.0


@dataclass(frozen=True)
class EpochResult:
    """Over all ranks: mean loss of a step, slices read; steps lost, and seconds on this rank.

    `image_size`: rows and columns of the network's input, in pixels.
    """

    loss: float
    slices: int
    lost_steps: int
    seconds: float
    learning_rate: float
    image_size: int


class EpochBar:
    """A bar as a log line of its own: what a rank prints reaches the terminal line by line."""

    def __init__(self, epoch: int, steps: int, visible: bool) -> None:
        self._epoch, self._steps, self._shown = epoch, steps, visible
        self._started = self._shown_at = time.monotonic()

    def note(self, step: int, loss: float | None) -> None:
        """Take note of a step that is done, counted from 1, and of its loss, None if it was lost."""
        now = time.monotonic()
        if not self._shown or now - self._shown_at < EVERY:
            return
        self._shown_at = now
        log.info(
            "%s",
            tqdm.format_meter(
                step,
                self._steps,
                now - self._started,
                ncols=80,
                prefix=f"epoch {self._epoch + 1}",
                unit="step",
                postfix=None if loss is None else f"loss {loss:.3f}",
            ),
        )


def open_epoch(learner: Learner, epoch: int) -> StackedEpoch | IndexedEpoch:
    """The rank's batches of an epoch, counted from 0; every random draw follows from seed, epoch and rank."""
    plan, rank = learner.plan, learner.rank
    seed, batch_size, steps = plan.settings.seed, plan.batch_per_rank, plan.steps_per_epoch
    torch.manual_seed(_epoch_seed(seed, epoch, rank.index))
    if learner.slices is not None:
        return learner.slices.epoch(
            batch_size=batch_size, steps=steps, seed=seed, epoch=epoch, rank=rank.index
        )
    loader = EpochLoader(
        plan.train[rank.index],
        batch_size=batch_size,
        steps=steps,
        seed=seed,
        epoch=epoch,
        rank=rank.index,
        cache=learner.cache,
    )
    return StackedEpoch(loader, plan.normalisation, pin=rank.device.type == "cuda")


def train_epoch(learner: Learner, epoch: int, span: Span) -> EpochResult:
    """One pass over the rank's share, its learning rate following `span`.

    Raises TrainingError if training goes astray by the rule of --non-finite, or if the ranks together did not
    read each labelled slice exactly once.
    """
    batches, steps = open_epoch(learner, epoch), StepLog(learner, epoch)
    size = learner.execution.sizes.during(span)
    bar = EpochBar(epoch, learner.plan.steps_per_epoch, visible=learner.rank.first)
    start = time.perf_counter()
    for step, batch in enumerate(batches):
        learner.set_rate(span.at(step, learner.plan.steps_per_epoch))
        steps.note(take_step(learner, to_network_batch(learner, batch, size)))
        bar.note(step + 1, steps.latest)
    steps.finish()
    seconds = time.perf_counter() - start
    slices = _check_count(batches.count, learner.rank, epoch)
    loss_sum, step_count = all_reduce_sum([steps.loss_sum, float(steps.counted)], learner.rank)
    return EpochResult(loss_sum / max(step_count, 1), slices, steps.lost, seconds, learner.rate, size)


def _epoch_seed(seed: int, epoch: int, rank: int) -> int:
    return int(np.random.SeedSequence((seed, epoch, rank)).generate_state(1)[0])


def to_network_batch(learner: Learner, batch: StackedBatch, size: int) -> NetworkBatch:
    """A batch as the network takes it: on the device, `size` pixels a side, augmented, with targets."""
    settings = learner.plan.settings
    inputs, masks, weights = to_tensors(batch, learner.rank.device, size)
    if settings.random_labels:
        draws = [random_label(settings.seed, scan_id, slice_index) for scan_id, slice_index in batch.keys]
        labels = torch.tensor(draws, dtype=torch.float32, device=inputs.device)[:, None]
    else:
        labels = (masks.flatten(1).amax(dim=1, keepdim=True) > 0).float()
    if learner.augmentation is not None:
        with torch.no_grad():
            inputs, masks = learner.augmentation(inputs, masks)
    return NetworkBatch(inputs, masks if settings.task == "segment" else labels, weights)


def to_tensors(batch: StackedBatch, device: torch.device, size: int) -> tuple[Tensor, Tensor, Tensor]:
    """Network input, masks and weights of a batch on the device, float32.

    Axes (N, C, size, size), (N, 1, size, size) and (N), in the order of the batch's slices, whose own sizes
    may differ.
    """
    batch = batch.to(device)
    inputs = torch.cat([to_network_input(part.images, part.normalisation, size) for part in batch.parts])
    masks = torch.cat([to_network_mask(part.masks, size) for part in batch.parts])
    if len(batch.parts) > 1:
        order = torch.argsort(torch.cat([part.places for part in batch.parts]))
        inputs, masks = inputs[order], masks[order]
    return inputs.contiguous(memory_format=torch.channels_last), masks, batch.weights


def _check_count(count: EpochCount, rank: Rank, epoch: int) -> int:
    """Slices that all ranks read; the check is the same on every rank, so that none is left waiting."""
    read, expected, wrong_scans, repeated = (
        round(total)
        for total in all_reduce_sum([count.read, count.expected, count.wrong_scans, count.repeated], rank)
    )
    if read != expected or wrong_scans or repeated:
        raise TrainingError(
            f"epoch {epoch + 1} did not read each labelled slice once",
            expected=f"{expected} slices, as the lake's scans table says",
            found=f"{read} slices, {repeated} of them again, {wrong_scans} scans with a wrong count",
            advice="Run ingest again: slices and scans tables do not agree.",
        )
    return read
