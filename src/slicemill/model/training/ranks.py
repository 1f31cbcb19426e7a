"""The ranks of a training run: joining them, and the sums that they share."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from slicemill.errors import MachineError
from slicemill.model.device import choose_device

#: Time after which a rank that waits for another gives up.
PATIENCE = timedelta(minutes=10)


@dataclass(frozen=True)
class Rank:
    """One process of a training run."""

    index: int
    count: int
    device: torch.device

    @property
    def first(self) -> bool:
        """Whether this rank writes what the run leaves behind."""
        return self.index == 0


@contextmanager
def process_group(ranks: int) -> Iterator[tuple[int, int]]:
    """Join the other ranks, as torchrun's environment names them; gives this rank's index and their number.

    A single rank joins nobody. Raises MachineError if the launcher started another number than planned.
    """
    index, count = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    if count != ranks:
        raise MachineError(
            "the launcher started another number of processes than planned", expected=ranks, found=count
        )
    if count > 1:
        backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
        dist.init_process_group(backend, timeout=PATIENCE)
    try:
        yield index, count
    finally:
        if count > 1:
            # A neighbour that is gone already is no news: what matters was raised before.
            with suppress(RuntimeError):
                dist.destroy_process_group()


def preflight(index: int, count: int, device: str) -> Rank:
    """Choose this rank's device, and check with the others that they fit together.

    Raises MachineError, on every rank alike, if two ranks share a GPU, if some have one and some do not, or
    if they run other versions of torch.
    """
    rank = Rank(index, count, choose_device(device, index))
    if count == 1:
        return rank
    gpu = str(torch.cuda.get_device_properties(rank.device).uuid) if rank.device.type == "cuda" else ""
    of_ranks: list[Any] = [None] * count
    dist.all_gather_object(of_ranks, (rank.device.type, gpu, torch.__version__))
    kinds, gpus, versions = (sorted({facts[at] for facts in of_ranks}) for at in range(3))
    if len(kinds) > 1 or len(versions) > 1:
        raise MachineError(
            "the ranks differ",
            expected="one kind of device and one torch",
            found=", ".join([*kinds, *versions]),
        )
    if gpu and len(gpus) < count:
        raise MachineError(
            "ranks share a GPU", expected=f"{count} GPUs", found=len(gpus), advice="Lower --num-processes."
        )
    if gpu:
        torch.cuda.set_device(rank.device)
    return rank


def all_reduce_sum(values: Sequence[float], rank: Rank) -> list[float]:
    """Each value summed over all ranks."""
    if rank.count == 1:
        return list(values)
    shared = torch.tensor(values, dtype=torch.float64, device=rank.device)
    dist.all_reduce(shared)
    return [float(value) for value in shared.tolist()]


def from_first_rank(values: Sequence[float], rank: Rank) -> list[float]:
    """Rank 0's values on every rank: clocks differ."""
    return all_reduce_sum(values if rank.first else [0.0] * len(values), rank)


def all_reduce_mean(tensors: Sequence[Tensor], rank: Rank) -> None:
    """Give every rank the mean of all ranks' tensors, in place."""
    if rank.count == 1:
        return
    for tensor in tensors:
        dist.all_reduce(tensor)
        tensor /= rank.count
