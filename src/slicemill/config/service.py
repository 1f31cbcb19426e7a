"""What a user can set of the HTTP service."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from slicemill.config.checks import require, require_engine_can
from slicemill.config.lake import MAX_PIXELS


@dataclass(frozen=True)
class ServeConfig:
    """Predict over HTTP: TIFF, PNG or NumPy bytes in, the mask out; no authentication, so loopback only."""

    model: str
    """Folder or s3:// URI of a training run, or a pointer; read once, when the service starts."""
    port: int = 8765
    """Port to listen on; 0 takes a free one, which the log names."""
    host: str = "127.0.0.1"
    """Address to listen on. Anything but loopback needs a proxy in front that knows who may ask."""
    max_bytes: int = 67_108_864
    """Largest request body."""
    max_slices: int = 256
    """Most slices of one request."""
    max_pixels: int = MAX_PIXELS
    """Largest slice that is accepted, in pixels."""
    queue: int = 16
    """Requests that are worked on or wait; more are answered with 503."""
    body_seconds: float = 20.0
    """Time that a request's body may take to arrive."""
    batch_size: int | None = None
    """Slices per forward pass; by default what suits the engine."""
    threshold: float | None = None
    """Probability from which a pixel is tumour; the model card's by default."""
    tta: Literal["auto", "none", "flips"] = "auto"
    """Mean over the slice and its flips; auto as the model card says."""
    components: Literal["auto", "all", "largest"] = "auto"
    """Connected components of the mask to keep; auto as the model card says."""
    smoothing: Literal["auto", "none", "slices"] = "auto"
    """Average a slice's probabilities with its neighbours'; auto as the model card says."""
    precision: Literal["auto", "fp32", "bf16", "int8"] = "auto"
    """Arithmetic of the forward pass; auto takes bf16 where the hardware has it; int8 needs `quantise`."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where it predicts; auto takes a GPU if one is there."""
    engine: Literal["auto", "torch", "onnx"] = "auto"
    """What computes the network: torch, ONNX Runtime on a CPU, or auto: the faster one on this machine."""
    boxes: Literal["auto", "off", "on"] = "auto"
    """Compute the box of a slice that holds the head, and take the rest for air; auto is off."""

    def __post_init__(self) -> None:
        require(0 <= self.port < 65_536, "--port", "0 to 65535", self.port)
        require(self.max_bytes >= 1, "--max-bytes", "at least 1", self.max_bytes)
        require(self.max_slices >= 1, "--max-slices", "at least 1", self.max_slices)
        require(self.max_pixels >= 1, "--max-pixels", "at least 1", self.max_pixels)
        require(self.queue >= 1, "--queue", "at least 1", self.queue)
        require(self.body_seconds > 0, "--body-seconds", "above 0", self.body_seconds)
        require(
            self.batch_size is None or self.batch_size >= 1, "--batch-size", "at least 1", self.batch_size
        )
        require_engine_can(self.engine, self.device, self.precision)
        require(
            self.threshold is None or 0 < self.threshold < 1, "--threshold", "between 0 and 1", self.threshold
        )
