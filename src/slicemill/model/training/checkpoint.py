"""Checkpoints: all that a run needs to go on, in one safetensors file that appears whole or not at all.

Tensors are the network's and the optimiser's; the rest is JSON in the file's header. Random draws of an
epoch follow from seed, epoch and rank alone, so no generator's state is kept, and any rank goes on from
rank 0's file.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

import safetensors
import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from torch.optim import Optimizer

from slicemill.config import TrainConfig
from slicemill.config.changes import changed_settings
from slicemill.core.training.state import RunState
from slicemill.errors import ConfigError, ModelFileError
from slicemill.io import storage
from slicemill.io.places import Run
from slicemill.io.storage.uri import display
from slicemill.model.training.learner import Learner

_STATE = "slicemill.state"

#: Settings that may differ between a run and its continuation.
_FREE_SETTINGS = frozenset(
    {"resume", "overwrite", "out", "lake", "device", "init_weights", "cache"}
    | {"figures", "tensorboard", "track", "experiment", "run_name"}
)


def network_bytes(network: nn.Module) -> bytes:
    """A network's weights and buffers as a safetensors file; the same weights give the same bytes."""
    return safetensors.torch.save(
        {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}
    )


def save_checkpoint(learner: Learner, state: RunState) -> None:
    """Write the run's last checkpoint."""
    tensors = {f"network/{name}": tensor for name, tensor in learner.network.state_dict().items()}
    if learner.average is not None:
        tensors |= {f"average/{name}": tensor for name, tensor in learner.average.state_dict().items()}
    optimiser = learner.optimiser.state_dict()
    for index, moments in optimiser["state"].items():
        tensors |= {f"optimiser/{index}/{name}": tensor for name, tensor in moments.items()}
    rest = {
        "position": state.to_json(),
        "groups": optimiser["param_groups"],
        "scaler": learner.scaler.state_dict(),
        "settings": learner.execution.sized(learner.plan.settings),
    }
    packed = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    uri = Run.of(learner.plan).last_checkpoint
    storage.write_bytes(uri, safetensors.torch.save(packed, {_STATE: json.dumps(rest)}))


def load_checkpoint(learner: Learner) -> RunState | None:
    """Take up the run's last checkpoint; None if there is none.

    Raises ModelFileError for a file that is not a checkpoint, ConfigError if the run had other settings.
    """
    uri = Run.of(learner.plan).last_checkpoint
    if not storage.exists(uri):
        return None
    data = storage.read_bytes(uri)
    try:
        tensors = safetensors.torch.load(data)
        rest = json.loads(_metadata(data)[_STATE])
        state = RunState.from_json(rest["position"])
    except (SafetensorError, KeyError, ValueError, TypeError) as error:
        raise ModelFileError(
            f"{display(uri)} is not a checkpoint",
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
    return state


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
