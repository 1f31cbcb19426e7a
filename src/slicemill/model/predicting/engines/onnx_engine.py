"""ONNX Runtime as an engine: its file made once a model and node, compared with torch, and kept.

On a CPU without bf16 it computes the same fp32 convolutions in less time than torch does. It is optional.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import logging
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from slicemill import __version__
from slicemill.core.engine import EngineFacts, Parity
from slicemill.errors import MachineError
from slicemill.io.machine import processor
from slicemill.io.run.card import Card
from slicemill.io.storage.node_cache import read_or_make
from slicemill.model.networks.registry import LOCAL
from slicemill.model.predicting.engines.engine import TorchEngine
from slicemill.model.predicting.engines.onnx_file import INPUT, onnx_bytes
from slicemill.model.predicting.engines.run_network import RunNetwork
from slicemill.model.predicting.self_test import probe_input

log = logging.getLogger(__name__)

#: An engine may differ from torch by so much in a probability, and in so large a share of its mask's pixels.
PROBABILITY_LIMIT, MASK_LIMIT = 1e-3, 1e-4

_CPU = torch.device("cpu")
#: Bytes of a SHA-256 in hex digits, which a kept file begins with.
_DIGEST = 64


@dataclass(frozen=True)
class OnnxEngine:
    """A session of ONNX Runtime on the CPU, in fp32."""

    session: Any
    facts: EngineFacts
    device: torch.device = _CPU

    def logits(self, inputs: Tensor) -> Tensor:
        """See `Engine.logits`."""
        (logits,) = self.session.run(None, {INPUT: inputs.contiguous().numpy()})
        return torch.from_numpy(logits)


def onnx_version() -> str | None:
    """The version of ONNX Runtime that is installed beside the package onnx; None without them."""
    try:
        importlib.metadata.version("onnx")
        return importlib.metadata.version("onnxruntime")
    except importlib.metadata.PackageNotFoundError:
        return None


def require_installed() -> str:
    """The version of ONNX Runtime; raise MachineError where it, or the package onnx, is not installed."""
    version = onnx_version()
    if version is None:
        raise MachineError(
            "ONNX Runtime is not installed",
            expected="the packages onnx and onnxruntime",
            found="none, or one of them",
            advice="Install slicemill[onnx], or use --engine torch.",
        )
    return version


def open_session(model: bytes, threads: int) -> Any:
    """A session on a model's file with so many threads, which sleep while they wait."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def load_onnx(source: RunNetwork, threads: int) -> OnnxEngine:
    """A run's network in ONNX Runtime, from the node's cache or exported now.

    Raises MachineError if ONNX Runtime is not installed, if the network can't be exported, or if what comes
    out differs from torch beyond `PROBABILITY_LIMIT` and `MASK_LIMIT`; ModelFileError as `load_network` does.
    """
    version = require_installed()
    source.check()
    name = _cache_name(source.card, version)
    model, parity = _unpack(read_or_make(name, lambda: _pack(source), _is_sound))
    if None in source.self_tests():
        # Nothing else would show that what was kept is the model that torch computes.
        parity = measured_parity(source, model)
        require_parity(parity, f"model {source.card.model_id}")
    facts = EngineFacts("onnxruntime", version, "fp32", parity)
    return OnnxEngine(open_session(model, threads), facts)


def measured_parity(source: RunNetwork, model: bytes) -> Parity:
    """How far a model's file is from its network in torch, on probes whole and cropped to a box."""
    session = open_session(model, 1)
    reference = TorchEngine(source.fused, _CPU, "fp32")
    engine = OnnxEngine(session, EngineFacts("onnxruntime", "", "fp32"))
    difference, pixels, changes = 0.0, 0, 0
    with torch.inference_mode():
        for inputs in _probes(source.card):
            expected, actual = (torch.sigmoid(by.logits(inputs)) for by in (reference, engine))
            difference = max(difference, float((expected - actual).abs().max()))
            threshold = source.card.threshold
            changes += int(((expected >= threshold) != (actual >= threshold)).sum())
            pixels += expected.numel()
    return Parity(difference, changes / pixels)


def require_parity(parity: Parity, model: str) -> None:
    """Raise MachineError for an engine that is too far from torch; NaN is."""
    if parity.largest_difference <= PROBABILITY_LIMIT and parity.mask_share <= MASK_LIMIT:
        return
    raise MachineError(
        f"{model} gives other probabilities in ONNX Runtime than in torch",
        expected=f"a difference of {PROBABILITY_LIMIT:g} at most, in {MASK_LIMIT:.2%} of a mask's pixels",
        found=f"{parity.largest_difference:.3g}, in {parity.mask_share:.2%} of them",
        advice="Use --engine torch.",
    )


def _probes(card: Card) -> list[Tensor]:
    """The self-test's input and its mirror image, and a box where the network takes boxes."""
    probe = probe_input(len(card.channels), card.input_size)
    probes = [torch.cat([probe, probe.flip(3)])]
    if card.architecture in LOCAL and card.input_size > 64:
        probes.append(probe[:, :, 32:, : card.input_size - 32])
    return probes


def exported(source: RunNetwork) -> tuple[bytes, EngineFacts]:
    """A run's network as an ONNX file, and how far it is from torch; raises as `load_onnx` does."""
    version, card, network = require_installed(), source.card, source.fused
    try:
        model = onnx_bytes(network, len(card.channels), card.input_size)
        parity = measured_parity(source, model)
    except Exception as error:  # Neither the exporter nor the runtime has one error for what it can't do.
        raise MachineError(
            f"model {card.model_id} can't be exported to ONNX",
            expected="a network that torch.onnx can trace and ONNX Runtime can run",
            found=f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}",
            advice="Use --engine torch.",
        ) from error
    require_parity(parity, f"model {card.model_id}")
    log.info("model %s: exported to ONNX, largest difference %.2g", card.model_id, parity.largest_difference)
    return model, EngineFacts("onnxruntime", version, "fp32", parity)


def _pack(source: RunNetwork) -> bytes:
    """What a node keeps: a SHA-256, the parity as a line of JSON, and the ONNX file."""
    model, facts = exported(source)
    content = json.dumps(facts.parity and asdict(facts.parity)).encode() + b"\n" + model
    return hashlib.sha256(content).hexdigest().encode() + content


def _is_sound(data: bytes) -> bool:
    return hashlib.sha256(data[_DIGEST:]).hexdigest().encode() == data[:_DIGEST]


def _unpack(data: bytes) -> tuple[bytes, Parity]:
    parity, _, model = data[_DIGEST:].partition(b"\n")
    return model, Parity(**json.loads(parity))


def _cache_name(card: Card, version: str) -> str:
    """A name of everything that the file and its parity depend on."""
    parts = [
        card.weights_sha256,
        card.architecture,
        str(card.input_size),
        str(card.threshold),
        json.dumps(dict(card.training), sort_keys=True, default=str),
        __version__,
        torch.__version__,
        np.__version__,
        version,
        processor(),
    ]
    return "onnx-" + hashlib.sha256("|".join(parts).encode()).hexdigest()
