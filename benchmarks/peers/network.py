"""What all peers share: the same network, the slices of a folder, and masks written as TIFF.

A peer reads, normalises, predicts and writes a mask a slice. It checks nothing, and computes no Dice and no
tables. Each is tuned as its own documentation says: the network loaded once a process, channels last, no
gradients.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from PIL import Image

from slicemill.io.run.card import load_card, weights_uri
from slicemill.io.storage.uri import local_path
from slicemill.model.networks.registry import architecture

SLICE_FILE = re.compile(r"_(\d+)\.tif$")
BATCH = 8


@dataclass(frozen=True)
class Work:
    """What a peer's command line says."""

    run: str
    raw: Path
    out: Path
    engine: str


def command_line() -> Work:
    """Parse a peer's arguments, and make its folder."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--run", required=True)
    parser.add_argument("--raw", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--engine", default="fp32", choices=("fp32", "bf16", "onnx"))
    work = Work(**vars(parser.parse_args()))
    work.out.mkdir(parents=True)
    return work


def scans(raw: Path) -> list[list[Path]]:
    """The slices of each scan, in their order."""
    by_scan: dict[Path, list[Path]] = {}
    for path in raw.rglob("*.tif"):
        if SLICE_FILE.search(path.name):
            by_scan.setdefault(path.parent, []).append(path)
    return [sorted(paths, key=_number) for _, paths in sorted(by_scan.items())]


def _number(path: Path) -> int:
    match = SLICE_FILE.search(path.name)
    return int(match[1]) if match else 0


def volume(paths: Sequence[Path]) -> np.ndarray:
    """A scan's slices, float32 (slices, channels, rows, columns), each channel normalised over the scan."""
    images = np.stack([np.asarray(Image.open(path)) for path in paths]).astype(np.float32)
    images -= images.mean((0, 1, 2))
    images /= images.std((0, 1, 2)) + 1
    return images.transpose(0, 3, 1, 2)


class Network:
    """The run's network, loaded once, on so many threads of torch or of ONNX Runtime."""

    def __init__(self, run: str, engine: str, threads: int) -> None:
        torch.set_num_threads(threads)
        card = load_card(run)
        self.threshold, self._engine = card.threshold, engine
        network = architecture(card.architecture, card.task).build(card.training)
        network.load_state_dict(safetensors.torch.load_file(local_path(weights_uri(run))))
        self._network = network.eval().to(memory_format=torch.channels_last)
        self._session = _session(self._network, card.input_size, threads) if engine == "onnx" else None

    def probabilities(self, images: np.ndarray) -> np.ndarray:
        """Tumour probability, float32 (slices, rows, columns), of (slices, channels, rows, columns)."""
        if self._session is not None:
            (logits,) = self._session.run(None, {"images": np.ascontiguousarray(images)})
            return (1 / (1 + np.exp(-logits)))[:, 0]
        with torch.inference_mode(), self._precision():
            batch = torch.from_numpy(np.ascontiguousarray(images)).to(memory_format=torch.channels_last)
            return torch.sigmoid(self._network(batch)).float().numpy()[:, 0]

    def _precision(self) -> AbstractContextManager[Any]:
        return torch.autocast("cpu", torch.bfloat16) if self._engine == "bf16" else nullcontext()


def _session(network: torch.nn.Module, size: int, threads: int) -> Any:
    import io

    import onnxruntime

    buffer = io.BytesIO()
    torch.onnx.export(
        network,
        (torch.zeros(1, 3, size, size),),
        buffer,
        input_names=["images"],
        dynamic_axes={"images": {0: "slices"}},
        dynamo=False,
    )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    return onnxruntime.InferenceSession(buffer.getvalue(), options, ["CPUExecutionProvider"])


def write_masks(paths: Sequence[Path], probabilities: np.ndarray, threshold: float, out: Path) -> None:
    """A TIFF a slice, 0 and 255."""
    for path, slice_ in zip(paths, probabilities, strict=True):
        Image.fromarray((slice_ >= threshold).astype(np.uint8) * 255).save(out / path.name)
