"""Which device and arithmetic a process uses."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import nn

from slicemill.errors import MachineError


def see_gpus(gpus: str | None) -> None:
    """Make these GPUs the ones that this process sees, before CUDA starts; see `TrainPlan.gpus`."""
    if gpus:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpus
    elif gpus is not None:
        os.environ.pop("CUDA_VISIBLE_DEVICES", None)


def choose_device(choice: str, rank: int = 0) -> torch.device:
    """The device for `choice`: auto, cpu or cuda; ranks of one machine take its GPUs in turn.

    Raises MachineError if a GPU is asked for and none is seen.
    """
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if choice == "cuda" and not gpus:
        raise MachineError(
            "no GPU is seen", expected="at least one CUDA device", found="none", advice="Use --device cpu."
        )
    if choice == "cpu" or not gpus:
        return torch.device("cpu")
    return torch.device("cuda", rank % gpus)


def choose_precision(choice: str, device: torch.device) -> str:
    """fp32, bf16 or fp16; auto takes bf16 where the hardware multiplies it, and not where it is emulated."""
    if choice != "auto":
        return choice
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
    fast = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return "bf16" if fast else "fp32"


def to_device(network: nn.Module, device: torch.device) -> nn.Module:
    """The network on its device, weights in channels_last order: a third faster on CPU, more on GPU."""
    # Module.to's type lacks memory_format: "No overload variant matches".
    network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    for parameter in network.parameters():
        if parameter.ndim == 4 and parameter.shape[2:] == (1, 1):
            # torch leaves the strides of 1 x 1 kernels, which fit both orders; their gradients' differ, and
            # DDP would warn and copy at every step.
            channels = parameter.shape[1]
            strides = (channels, 1, channels, channels)
            parameter.data = parameter.data.as_strided(parameter.shape, strides)
    return network


_REDUCED = {"bf16": torch.bfloat16, "fp16": torch.float16}


def autocast(device: torch.device, precision: str) -> AbstractContextManager[object]:
    """Context of the forward pass."""
    return torch.autocast(device.type, _REDUCED[precision]) if precision in _REDUCED else nullcontext()


def mark(device: torch.device) -> torch.cuda.Event | None:
    """A mark behind the work that a GPU was given so far; None on a CPU, which is done with it."""
    if device.type != "cuda":
        return None
    event = torch.cuda.Event()  # type: ignore[no-untyped-call]
    event.record(torch.cuda.current_stream(device))
    return event


def wait_for(event: torch.cuda.Event | None) -> None:
    """Wait until the work before a mark is done."""
    if event is not None:
        event.synchronize()
