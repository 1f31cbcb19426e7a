"""One optimiser step: forward, loss, backward, and what happens when a number is not finite."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from slicemill.errors import TrainingError
from slicemill.model.device import autocast
from slicemill.model.training.learner import Learner

log = logging.getLogger(__name__)

#: Norm that a step's gradient is cut down to.
GRADIENT_NORM = 1.0

#: Steps that may be lost in a row, by the rule `skip`.
MOST_LOST = 10


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


def take_step(learner: Learner, batch: NetworkBatch) -> float | None:
    """Make one step on a batch; gives its loss on this rank, None if the step was lost.

    A step is lost, on every rank alike, where the gradient that the ranks share is not finite: weights,
    optimiser and running statistics stay as they were.
    """
    before = [buffer.clone() for buffer in learner.network.buffers()]
    learner.optimiser.zero_grad(set_to_none=True)
    loss = _backward(learner, batch)
    learner.scaler.unscale_(learner.optimiser)
    norm = nn.utils.clip_grad_norm_(learner.network.parameters(), GRADIENT_NORM)
    if not math.isfinite(norm.item()):
        with torch.no_grad():
            for buffer, value in zip(learner.network.buffers(), before, strict=True):
                buffer.copy_(value)
        # Tells the scaler, which then tries a lower scale.
        learner.scaler.update()
        return None
    learner.scaler.step(learner.optimiser)
    learner.scaler.update()
    if learner.average is not None:
        learner.average.update_parameters(learner.network)
    return loss


def _backward(learner: Learner, batch: NetworkBatch) -> float:
    parts = batch.parts(learner.plan.settings.accumulate)
    total = 0.0
    for place, part in enumerate(parts, start=1):
        with learner.gradient_exchange(last_part=place == len(parts)):
            with autocast(learner.rank.device, learner.execution.precision):
                logits = learner.stepped(part.inputs)
            loss = learner.loss(logits, part.targets, part.weights) * (len(part.inputs) / len(batch.inputs))
            torch.autograd.backward(learner.scaler.scale(loss))
        total += loss.item()
    return total


class LostSteps:
    """Counts the steps of an epoch that were lost, and stops the run by its rule.

    With fp16 a few are the way in which the scaler finds its scale.
    """

    def __init__(self, learner: Learner) -> None:
        self._learner = learner
        self._most = min(MOST_LOST, learner.plan.steps_per_epoch - 1)
        self._in_a_row = 0
        self.count = 0

    def note(self, loss: float | None, epoch: int, step: int) -> None:
        """Take note of a step's loss, None for a lost one.

        Raises TrainingError at the first by the rule `stop`; by `skip` after more than `MOST_LOST` in a row,
        or a whole epoch of them.
        """
        if loss is not None:
            self._in_a_row = 0
            return
        self.count += 1
        self._in_a_row += 1
        rule = self._learner.plan.settings.non_finite
        if rule == "stop" or self._in_a_row > self._most:
            raise TrainingError(
                f"training went astray in epoch {epoch + 1}, step {step + 1}",
                expected="a finite loss and gradient",
                found=f"neither, in {self._in_a_row} steps in a row",
                advice="Lower --learning-rate, or use --precision fp32.",
            )
        if self._learner.rank.first:
            log.warning(
                "epoch %d, step %d: the gradient is not finite; the step is lost", epoch + 1, step + 1
            )
