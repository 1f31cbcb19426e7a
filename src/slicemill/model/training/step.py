"""One optimiser step: forward, loss, backward, and what happens when a number is not finite."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from slicemill.errors import TrainingError
from slicemill.model.device import autocast, mark, wait_for
from slicemill.model.training.learner import Learner

log = logging.getLogger(__name__)

#: Norm that a step's gradient is cut down to.
GRADIENT_NORM = 1.0

#: Steps that may be lost in a row, by the rule `skip`.
MOST_LOST = 10

#: Steps after which losses are read, by the kind of device.
WINDOWS = {"cpu": 1, "cuda": 32}


@dataclass(frozen=True)
class NetworkBatch:
    """A batch on the device, float32: inputs (N, C, S, S), targets (N, 1, S, S) or (N, 1), weights (N)."""

    inputs: Tensor
    targets: Tensor
    weights: Tensor

    def parts(self, count: int) -> list[NetworkBatch]:
        """The batch in `count` parts of about equal size."""
        pieces = (tensor.tensor_split(count) for tensor in (self.inputs, self.targets, self.weights))
        return [NetworkBatch(*piece) for piece in zip(*pieces, strict=True)]


@dataclass(frozen=True)
class StepResult:
    """A step's loss on this rank and whether the step counts; each one number on the device.

    Nothing waits for them: a GPU is given the next step while it works on this one.
    """

    loss: Tensor
    finite: Tensor


def take_step(learner: Learner, batch: NetworkBatch) -> StepResult:
    """Make one step on a batch.

    A step is lost, on every rank alike, where the gradient that the ranks share is not finite: weights,
    optimiser and running statistics stay as they were.
    """
    learner.buffers.save()
    learner.optimiser.zero_grad(set_to_none=True)
    loss = _backward(learner, batch)
    learner.scaler.unscale_(learner.optimiser)
    finite = nn.utils.clip_grad_norm_(learner.network.parameters(), GRADIENT_NORM).isfinite()
    if not learner.scaler.is_enabled():
        # The fused optimiser leaves everything as it is where this is 1; a scaler sets it by itself.
        vars(learner.optimiser).update(grad_scale=None, found_inf=(~finite).float())
    learner.scaler.step(learner.optimiser)
    learner.scaler.update()
    learner.buffers.restore_unless(finite)
    if learner.average is not None:
        learner.average.update()
    return StepResult(loss, finite)


def _backward(learner: Learner, batch: NetworkBatch) -> Tensor:
    parts = batch.parts(learner.plan.settings.accumulate)
    total = torch.zeros((), device=batch.inputs.device)
    for place, part in enumerate(parts, start=1):
        with learner.gradient_exchange(last_part=place == len(parts)):
            with autocast(learner.rank.device, learner.execution.precision):
                logits = learner.stepped(part.inputs)
            loss = learner.loss(logits, part.targets, part.weights) * (len(part.inputs) / len(batch.inputs))
            torch.autograd.backward(learner.scaler.scale(loss))
        total += loss.detach()
    return total


class StepLog:
    """Losses of an epoch's steps, kept on the device and read some steps later; stops the run by its rule.

    With fp16 a few lost steps are the way in which the scaler finds its scale.
    """

    def __init__(self, learner: Learner, epoch: int) -> None:
        steps, device = learner.plan.steps_per_epoch, learner.rank.device
        self._learner, self._epoch = learner, epoch
        self._most = min(MOST_LOST, steps - 1)
        self._window = WINDOWS[device.type]
        self._on_device = torch.full((steps,), math.nan, device=device)
        self._losses = torch.full((steps,), math.nan, pin_memory=device.type == "cuda")
        self._noted = self._sent = self._read = self._in_a_row = 0
        self.lost = 0
        self.loss_sum = 0.0
        self.latest: float | None = None
        """Loss of the last step that was read; None if it was lost."""

    @property
    def counted(self) -> int:
        """Steps that were not lost, of those that were read."""
        return self._read - self.lost

    def note(self, result: StepResult) -> None:
        """Take note of the next step. Raises TrainingError as `finish` does, for steps before it."""
        self._on_device[self._noted] = torch.where(result.finite, result.loss, math.nan)
        self._noted += 1
        if self._noted % self._window == 0:
            # What was sent a window ago is here by now, so that the device does not run dry.
            self._read_sent()
            self._send()
            if self._window == 1:
                self._read_sent()

    def finish(self) -> None:
        """Read what is left.

        Raises TrainingError at the first lost step by the rule `stop`; by `skip` after more than `MOST_LOST`
        in a row, or a whole epoch of them.
        """
        self._read_sent()
        self._send()
        self._read_sent()

    def _send(self) -> None:
        part = slice(self._sent, self._noted)
        self._losses[part].copy_(self._on_device[part], non_blocking=True)
        self._sent = self._noted
        self._arrival = mark(self._learner.rank.device)

    def _read_sent(self) -> None:
        if self._read == self._sent:
            return
        wait_for(self._arrival)
        for step in range(self._read, self._sent):
            self._note_loss(step, float(self._losses[step]))
        self._read = self._sent

    def _note_loss(self, step: int, loss: float) -> None:
        if not math.isnan(loss):
            self._in_a_row, self.latest = 0, loss
            self.loss_sum += loss
            return
        self.lost += 1
        self._in_a_row += 1
        self.latest = None
        rule = self._learner.plan.settings.non_finite
        if rule == "stop" or self._in_a_row > self._most:
            raise TrainingError(
                f"training went astray in epoch {self._epoch + 1}, step {step + 1}",
                expected="a finite loss and gradient",
                found=f"neither, in {self._in_a_row} steps in a row",
                advice="Lower --learning-rate, or use --precision fp32.",
            )
        if self._learner.rank.first:
            log.warning(
                "epoch %d, step %d: the gradient is not finite; the step is lost", self._epoch + 1, step + 1
            )
