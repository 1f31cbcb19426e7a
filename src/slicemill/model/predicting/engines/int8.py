"""A network in int8 by ONNX Runtime: a scale an activation by calibration, a scale a channel of each weight.

Quantised and dequantised where the graph computes in int8 (Jacob et al. 2018). Activations are clipped at a
percentile of what calibration saw, since a single voxel must not widen the scale of all.
"""

from __future__ import annotations

import contextlib
import io
import tempfile
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from slicemill.core.engine import EngineFacts
from slicemill.errors import MachineError
from slicemill.io.run.card import SelfTest
from slicemill.io.run.quantisation import read_quantised
from slicemill.model.predicting.engines.engine import Engine
from slicemill.model.predicting.engines.onnx_engine import (
    OnnxEngine,
    onnx_version,
    open_session,
    require_installed,
)
from slicemill.model.predicting.engines.onnx_file import INPUT, onnx_bytes
from slicemill.model.predicting.engines.run_network import RunNetwork
from slicemill.model.predicting.self_test import TOLERANCES, check_self_test, self_test_of

#: Share of calibration's activations that the scale holds, in per cent.
PERCENTILE = 99.99

INT8 = "int8"


def int8_engine(model: bytes, threads: int) -> OnnxEngine:
    """A quantised file as an engine; raises MachineError where ONNX Runtime is not installed."""
    return OnnxEngine(open_session(model, threads), EngineFacts("onnxruntime", require_installed(), INT8))


def load_int8(source: RunNetwork, threads: int) -> OnnxEngine:
    """A run's quantised network, its self-test passed.

    Raises ModelFileError for a run without one, or where this machine's int8 gives something else: older
    processors saturate in the middle of a sum. MachineError where ONNX Runtime is not installed.
    """
    source.check()
    model, quantisation = read_quantised(source.run_uri, source.card)
    engine = int8_engine(model, threads)
    check_self_test(
        engine.logits,
        [quantisation.self_test],
        len(source.card.channels),
        TOLERANCES[INT8],
        f"model {source.card.model_id} in int8",
    )
    return engine


def quantised(source: RunNetwork, slices: Iterable[Tensor]) -> bytes:
    """A run's network as an ONNX file in int8.

    `slices`: float32 network inputs with axes (1, C, H, W), from which activations get their scales. Raises
    MachineError where ONNX Runtime is not installed or can't quantise the network.
    """
    require_installed()
    # Read first: what the lake has to say against it is not the quantiser's.
    inputs = iter(list(slices))
    from onnxruntime import quantization
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(quantization.CalibrationDataReader):  # type: ignore[misc]
        def get_next(self) -> dict[str, Any] | None:
            entry = next(inputs, None)
            return None if entry is None else {INPUT: entry.contiguous().numpy()}

    card = source.card
    with tempfile.TemporaryDirectory() as home, contextlib.redirect_stdout(io.StringIO()):
        exported, prepared, result = (Path(home) / f"{name}.onnx" for name in ("fp32", "prepared", "int8"))
        exported.write_bytes(onnx_bytes(source.fused, len(card.channels), card.input_size))
        try:
            quant_pre_process(exported, prepared, skip_symbolic_shape=True)
            quantization.quantize_static(
                prepared,
                result,
                Reader(),
                quant_format=quantization.QuantFormat.QDQ,
                per_channel=True,
                activation_type=quantization.QuantType.QUInt8,
                weight_type=quantization.QuantType.QInt8,
                calibrate_method=quantization.CalibrationMethod.Percentile,
                extra_options={"CalibPercentile": PERCENTILE},
            )
        except Exception as error:  # The quantiser has no error of its own.
            raise MachineError(
                f"model {card.model_id} can't be quantised",
                expected="a network that ONNX Runtime can quantise",
                found=f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}",
                advice="Score it in fp32 or bf16.",
            ) from error
        return result.read_bytes()


def int8_self_test(engine: Engine, channels: int, size: int) -> SelfTest:
    """What a quantised network gives for the fixed input."""
    with torch.inference_mode():
        return self_test_of(engine.logits, channels, size)


def int8_versions() -> dict[str, str]:
    """Versions of what quantised."""
    return {"onnxruntime": str(onnx_version()), "onnx": version("onnx"), "torch": version("torch")}
