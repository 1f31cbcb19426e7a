"""Checkpoints: all that a run needs to go on, in one safetensors file that appears whole or not at all.

Tensors are the network's and the optimiser's; the rest is JSON in the file's header. Random draws of an
epoch follow from seed, epoch and rank alone, so no generator's state is kept, and any rank goes on from
rank 0's file.
"""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import safetensors
import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from torch.optim import Optimizer

from slicemill.config import TrainConfig
from slicemill.config.changes import RECORDING, changed_settings
from slicemill.core.training.plan import TrainPlan
from slicemill.core.training.state import RunState
from slicemill.errors import ConfigError, ModelFileError
from slicemill.io import storage
from slicemill.io.places import Run
from slicemill.io.run.rank_files import write_bytes
from slicemill.io.storage.uri import display
from slicemill.model.training.learner import Learner

_STATE = "slicemill.state"

#: Seconds between two checkpoints: what a killed run loses at most, beside the epoch that it was in.
EVERY = 60.0

#: Settings that may differ between a run and its continuation.
_FREE_SETTINGS = frozenset(
    {"resume", "overwrite", "out", "lake", "device", "init_weights", "init_from", "cache"} | RECORDING
)


def network_bytes(network: nn.Module) -> bytes:
    """A network's weights and buffers as a safetensors file; the same weights give the same bytes."""
    return safetensors.torch.save(
        {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}
    )


@dataclass(frozen=True)
class Snapshot:
    """A run as it stood after an epoch, in memory: tensors by name, and what goes into the file's header."""

    tensors: Mapping[str, Tensor]
    header: Mapping[str, str]

    @classmethod
    def take(cls, learner: Learner, state: RunState, best: bytes) -> Snapshot:
        """Copy all that the run needs to go on; `best` are the weights to publish."""
        tensors = {f"network/{name}": tensor for name, tensor in learner.network.state_dict().items()}
        if learner.average is not None:
            tensors |= {f"average/{name}": tensor for name, tensor in learner.average.state_dict().items()}
        optimiser = learner.optimiser.state_dict()
        for index, moments in optimiser["state"].items():
            tensors |= {f"optimiser/{index}/{name}": tensor for name, tensor in moments.items()}
        copied = {name: tensor.detach().to("cpu", copy=True) for name, tensor in tensors.items()}
        copied |= {f"best/{name}": tensor for name, tensor in safetensors.torch.load(best).items()}
        fields = {
            "position": state.to_json(),
            "groups": optimiser["param_groups"],
            "scaler": learner.scaler.state_dict(),
            "settings": learner.execution.sized(learner.plan.settings),
        }
        return cls(copied, {_STATE: json.dumps(fields)})

    def write(self, plan: TrainPlan) -> None:
        """Write the checkpoint of the plan's run, whole or not at all."""
        packed = {name: tensor.contiguous() for name, tensor in self.tensors.items()}
        write_bytes(plan, Run.of(plan).last_checkpoint, safetensors.torch.save(packed, dict(self.header)))


class Checkpoints:
    """Checkpoints of a run, written behind its back and spaced by time; see `checkpoints`."""

    def __init__(self, learner: Learner, best: bytes) -> None:
        self._learner = learner
        self._writer = ThreadPoolExecutor(1, "checkpoint")
        self._written: Future[None] | None = None
        self._latest: Snapshot | None = None
        self._due = 0.0
        self.best = best
        """The weights to publish, as a safetensors file; the same on every rank."""

    def note(self, state: RunState) -> None:
        """Take note of an epoch. Raises what writing an earlier checkpoint raised."""
        if state.published.epoch == state.epochs_done:
            self.best = network_bytes(self._learner.published)
        if not self._learner.rank.first:
            return
        self._latest = Snapshot.take(self._learner, state, self.best)
        if time.monotonic() >= self._due and (self._written is None or self._written.done()):
            self._write()

    def close(self) -> None:
        """Write the last epoch, if it is not yet, and wait until it is there."""
        self._write()
        self._writer.shutdown()
        if self._written is not None:
            self._written.result()

    def _write(self) -> None:
        if self._written is not None:
            self._written.result()
        if self._latest is not None:
            self._written = self._writer.submit(self._latest.write, self._learner.plan)
            self._latest, self._due = None, time.monotonic() + EVERY


@contextmanager
def checkpoints(learner: Learner, best: bytes) -> Iterator[Checkpoints]:
    """Gives what takes note of each epoch; leaving writes the last one, also after an error.

    `best`: the weights to publish so far, empty before the first epoch.
    """
    keeper = Checkpoints(learner, best)
    try:
        yield keeper
    except BaseException:
        # What stopped the run is the news, not that its last epoch could not be written.
        with suppress(Exception):
            keeper.close()
        raise
    keeper.close()


def load_checkpoint(learner: Learner) -> tuple[RunState, bytes] | None:
    """Take up the run's last checkpoint: its state and the weights to publish; None if there is none.

    Raises ModelFileError for a file that is not a checkpoint, ConfigError if the run had other settings.
    """
    run = Run.of(learner.plan)
    uri = run.last_checkpoint
    if not storage.exists(uri):
        return None
    data = storage.read_bytes(uri)
    try:
        tensors = safetensors.torch.load(data)
        fields = json.loads(_metadata(data)[_STATE])
        state = RunState.from_json(fields["position"])
    except (SafetensorError, KeyError, ValueError, TypeError) as error:
        raise ModelFileError(
            f"{display(uri)} is not a checkpoint",
            expected="the file that this version's train wrote",
            found=str(error),
        ) from error
    _check_settings(fields["settings"], learner.plan.settings)
    learner.network.load_state_dict(_below("network/", tensors))
    if learner.average is not None:
        learner.average.load_state_dict(_below("average/", tensors))
    learner.optimiser.load_state_dict(
        {
            "state": _moments(_below("optimiser/", tensors), learner.optimiser),
            "param_groups": fields["groups"],
        }
    )
    learner.scaler.load_state_dict(fields["scaler"])
    best = _below("best/", tensors)
    # Earlier releases kept them in a file of their own.
    return state, safetensors.torch.save(best) if best else storage.read_bytes(run.best_weights)


def _moments(tensors: Mapping[str, Tensor], optimiser: Optimizer) -> dict[int, dict[str, Tensor]]:
    parameters = [parameter for group in optimiser.param_groups for parameter in group["params"]]
    moments: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        index, _, moment = name.partition("/")
        like = parameters[int(index)]
        # The fused optimiser walks memory: moments must lie in the order of their parameter.
        ordered = (
            torch.empty_like(like, dtype=tensor.dtype).copy_(tensor) if tensor.shape == like.shape else tensor
        )
        moments.setdefault(int(index), {})[moment] = ordered
    return moments


def _metadata(data: bytes) -> dict[str, str]:
    # The format: 8 bytes of little-endian length, then that much JSON.
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    metadata: dict[str, str] = header.get("__metadata__", {})
    return metadata


def _below(prefix: str, tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _check_settings(before: Mapping[str, Any], now: TrainConfig) -> None:
    open_sizes = {name for name in ("image_size", "first_size") if getattr(now, name) is None}
    for name in changed_settings(before, dataclasses.asdict(now), _FREE_SETTINGS | open_sizes):
        raise ConfigError(
            f"--resume with another --{name.replace('_', '-')} than the run began with",
            expected=before.get(name),
            found=getattr(now, name, None),
            advice="Repeat the run's own settings, or train into another --out.",
        )
