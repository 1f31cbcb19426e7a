"""Which engine scores: the one that was named, or the one that is faster on this machine."""

from __future__ import annotations

import hashlib
import logging
import platform
import time
from typing import TypeVar

import torch
from torch import Tensor

from slicemill.errors import MachineError, ModelFileError
from slicemill.io.machine import processor
from slicemill.io.storage.node_cache import read_or_make
from slicemill.model.device import to_device
from slicemill.model.predicting.engines.engine import Engine, TorchEngine
from slicemill.model.predicting.engines.int8 import INT8, load_int8
from slicemill.model.predicting.engines.onnx_engine import OnnxEngine, load_onnx
from slicemill.model.predicting.engines.run_network import RunNetwork
from slicemill.model.predicting.self_test import check_self_test, probe_input, tolerance

log = logging.getLogger(__name__)

_E = TypeVar("_E", bound=Engine)

#: Slices of a trial's round, and its rounds.
_SLICES, _ROUNDS = 2, 3

#: Share of its time that torch must save to be taken instead of ONNX Runtime: less is noise.
_LEAST_GAIN = 0.05


def choose_engine(name: str, source: RunNetwork, device: torch.device, precision: str) -> Engine:
    """The engine of a name, auto, torch or onnx, its self-test passed; in int8 always ONNX Runtime.

    auto is torch on a GPU, and on a CPU that multiplies bf16, where it is 1.6 times as fast as ONNX Runtime
    in fp32. On other CPUs it is ONNX Runtime if a trial, which the node remembers, does not find torch
    faster; torch with one line in the log where ONNX Runtime is not installed or differs from torch. Raises
    MachineError for `onnx` where it is not installed or differs; ModelFileError as `load_network` does.
    """
    if precision == INT8:
        return load_int8(source, torch.get_num_threads())
    if None in source.self_tests():
        log.warning("model %s has no self-test: an earlier release published it", source.card.model_id)
    if name == "onnx":
        return _checked(load_onnx(source, torch.get_num_threads()), source)
    if name == "torch" or device.type != "cpu" or precision != "fp32":
        return _torch(source, device, precision)
    try:
        engine = _checked(load_onnx(source, torch.get_num_threads()), source)
    except (MachineError, ModelFileError) as error:
        # A fault of the model itself is torch's to name.
        reference = _torch(source, device, precision)
        log.info("scoring goes by torch: %s", error)
        return reference
    return engine if _onnx_wins(source, engine) else _torch(source, device, precision)


def _torch(source: RunNetwork, device: torch.device, precision: str) -> TorchEngine:
    return _checked(TorchEngine(to_device(source.fused, device), device, precision), source)


def _checked(engine: _E, source: RunNetwork) -> _E:
    card = source.card

    def logits_of(inputs: Tensor) -> Tensor:
        with torch.inference_mode():
            return engine.logits(inputs.to(engine.device))

    limit = tolerance(engine.device, engine.facts.precision)
    check_self_test(logits_of, source.self_tests(), len(card.channels), limit, f"model {card.model_id}")
    return engine


def _onnx_wins(source: RunNetwork, engine: OnnxEngine) -> bool:
    parts = [
        source.card.model_id,
        str(torch.get_num_threads()),
        processor(),
        torch.__version__,
        engine.facts.version,
        platform.node(),
    ]
    name = "engine-" + hashlib.sha256("|".join(parts).encode()).hexdigest()
    return read_or_make(name, lambda: b"onnx" if _trial(source, engine) else b"torch") == b"onnx"


def _trial(source: RunNetwork, engine: OnnxEngine) -> bool:
    """Whether torch is not the faster one, by CPU time: the wall says more of the neighbours."""
    card = source.card
    slices = probe_input(len(card.channels), card.input_size).repeat(_SLICES, 1, 1, 1)
    reference = TorchEngine(to_device(source.fused, engine.device), engine.device, "fp32")
    clock = time.thread_time if torch.get_num_threads() == 1 else time.process_time

    def seconds(by: Engine, size: int) -> float:
        start = clock()
        for first in range(0, _SLICES, size):
            by.logits(slices[first : first + size])
        return clock() - start

    with torch.inference_mode():
        rounds = [(seconds(reference, _SLICES), seconds(engine, 1)) for _ in range(_ROUNDS)]
    torch_seconds, onnx_seconds = (min(times) for times in zip(*rounds, strict=True))
    log.info(
        "model %s: %.0f slices a CPU second by torch, %.0f by ONNX Runtime",
        card.model_id,
        _SLICES / torch_seconds,
        _SLICES / onnx_seconds,
    )
    return bool(torch_seconds > onnx_seconds * (1 - _LEAST_GAIN))
