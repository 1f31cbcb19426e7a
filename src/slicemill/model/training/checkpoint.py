"""Checkpoints: all that a run needs to go on, in one safetensors file that appears whole or not at all.

Tensors are the network's and the optimiser's; the rest is JSON in the file's header. Random draws of an
epoch follow from seed, epoch and rank alone, so no generator's state is kept, and any rank goes on from
rank 0's file.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import safetensors
import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from torch.optim import Optimizer

from slicemill.core.training.selection import leading_epoch, published_epoch, score
from slicemill.errors import ConfigError, ModelFileError
from slicemill.io import storage
from slicemill.io.places import Run
from slicemill.io.storage.uri import display
from slicemill.model.training.learner import Learner

_STATE = "slicemill.state"

#: Settings that may differ between a run and its continuation.
_FREE_SETTINGS = frozenset(
    {
        "resume",
        "out",
        "lake",
        "device",
        "init_weights",
        "cache",
        "figures",
        "tensorboard",
        "track",
        "experiment",
        "run_name",
    }
)


@dataclass(frozen=True)
class Position:
    """Where a run stands after an epoch."""

    epochs_done: int = 0
    progress: float = 0.0
    """Of the schedule, 0 to 1; see `slicemill.core.training.schedule`."""
    seconds: float = 0.0
    """Time that the run has taken, over all its launches."""
    history: list[dict[str, Any]] = field(default_factory=list)
    """The lines of metrics.jsonl."""
    sizes: tuple[int, int] | None = None
    """Rows and columns of the network's input at first and in the end, in pixels, once they are settled."""

    @property
    def leading_epoch(self) -> int:
        """Number of the best epoch so far, 0 before the first."""
        return leading_epoch(self.history)

    @property
    def leading_score(self) -> float | None:
        """What that epoch was worth."""
        return score(self.history[self.leading_epoch - 1]) if self.history else None

    @property
    def published(self) -> dict[str, Any]:
        """The line of the epoch that would be published now."""
        return self.history[published_epoch(self.history) - 1]


def network_bytes(network: nn.Module) -> bytes:
    """A network's weights and buffers as a safetensors file; the same weights give the same bytes."""
    return safetensors.torch.save(
        {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}
    )


def save_checkpoint(learner: Learner, position: Position) -> None:
    """Write the run's last checkpoint."""
    tensors = {f"network/{name}": tensor for name, tensor in learner.network.state_dict().items()}
    if learner.average is not None:
        tensors |= {f"average/{name}": tensor for name, tensor in learner.average.state_dict().items()}
    state = learner.optimiser.state_dict()
    for index, moments in state["state"].items():
        tensors |= {f"optimiser/{index}/{name}": tensor for name, tensor in moments.items()}
    rest = {
        "position": vars(position),
        "groups": state["param_groups"],
        "scaler": learner.scaler.state_dict(),
        "settings": dict(learner.plan.settings),
    }
    packed = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    uri = Run(learner.plan.settings["out"]).last_checkpoint
    storage.write_bytes(uri, safetensors.torch.save(packed, {_STATE: json.dumps(rest)}))


def load_checkpoint(learner: Learner) -> Position | None:
    """Take up the run's last checkpoint; None if there is none.

    Raises ModelFileError for a file that is no checkpoint, ConfigError if the run had other settings.
    """
    uri = Run(learner.plan.settings["out"]).last_checkpoint
    if not storage.exists(uri):
        return None
    data = storage.read_bytes(uri)
    try:
        tensors = safetensors.torch.load(data)
        rest = json.loads(_metadata(data)[_STATE])
        position = Position(**{**rest["position"], "sizes": tuple(rest["position"]["sizes"])})
    except (SafetensorError, KeyError, ValueError, TypeError) as error:
        raise ModelFileError(
            f"{display(uri)} is no checkpoint",
            expected="the file that this version's train wrote",
            found=str(error),
        ) from error
    _check_settings(rest["settings"], learner.plan.settings)
    learner.network.load_state_dict(_below("network/", tensors))
    if learner.average is not None:
        learner.average.load_state_dict(_below("average/", tensors))
    learner.optimiser.load_state_dict(
        {"state": _moments(_below("optimiser/", tensors), learner.optimiser), "param_groups": rest["groups"]}
    )
    learner.scaler.load_state_dict(rest["scaler"])
    return position


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


def _check_settings(before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    unasked = {name for name in ("image_size", "first_size") if now.get(name) is None}
    for name in sorted((before.keys() | now.keys()) - _FREE_SETTINGS - unasked):
        if before.get(name) != now.get(name):
            raise ConfigError(
                f"--resume with another --{name.replace('_', '-')} than the run began with",
                expected=before.get(name),
                found=now.get(name),
                advice="Repeat the run's own settings, or train into another --out.",
            )
