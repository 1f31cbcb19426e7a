"""What a user can set of a single prediction."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from slicemill.config.checks import (
    require,
    require_engine_can,
    require_table,
    require_volumes,
    single_text_as_tuple,
    spacing_sides,
)
from slicemill.config.lake import MAX_PIXELS, PUBLIC_SCAN_PATTERN
from slicemill.errors import ConfigError


@dataclass(frozen=True)
class PredictConfig:
    """Predict one scan, or some slices, at once and without Spark: masks, a picture and a table."""

    file: tuple[str, ...]
    """One scan folder; or TIFF, PNG or NumPy (.npy) files of one scan. Local paths or s3:// URIs."""
    model: str | None = None
    """Folder or s3:// URI of a training run."""
    out: str | None = None
    """Folder or s3:// URI for the masks, outlines.png and slices.csv."""
    format: Literal["tif", "png"] = "tif"
    """Type of the mask files: 0 and 255, the size of their slices."""
    nifti: bool = False
    """Write the mask as NIfTI too."""
    probabilities: bool = False
    """With --nifti: the tumour probabilities too, a byte a voxel."""
    spacing: str | None = None
    """Distance of slices, rows, columns, dz,dy,dx: millimetres or clinical columns, for HD95 and volumes."""
    clinical: str | None = None
    """Clinical table (CSV) of the columns that --spacing names."""
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
    picture: bool = True
    """Draw outlines.png."""
    scan_pattern: str = PUBLIC_SCAN_PATTERN
    """Regular expression for scan folders, with the named groups patient_id, institution, scan_date."""
    max_pixels: int = MAX_PIXELS
    """Largest slice that is accepted, in pixels."""
    precision: Literal["auto", "fp32", "bf16", "int8"] = "auto"
    """Arithmetic of the forward pass; auto takes bf16 where the hardware has it; int8 needs `quantise`."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where it predicts; auto takes a GPU if one is there."""
    engine: Literal["auto", "torch", "onnx"] = "auto"
    """What computes the network: torch, ONNX Runtime on a CPU, or auto: the faster one on this machine."""
    boxes: Literal["auto", "off", "on"] = "auto"
    """Compute the box of a slice that holds the head, and take the rest for air; auto is off."""

    def __post_init__(self) -> None:
        single_text_as_tuple(self)
        if not self.file:
            raise ConfigError("FILE is missing", expected="one scan folder, or its slices", found="none")
        if not self.model:
            raise ConfigError("--model is missing", expected="the folder of a training run", found="none")
        if not self.out:
            raise ConfigError("--out is missing", expected="a folder to write to", found="none")
        require(
            self.threshold is None or 0 < self.threshold < 1, "--threshold", "between 0 and 1", self.threshold
        )
        require(
            self.batch_size is None or self.batch_size >= 1, "--batch-size", "at least 1", self.batch_size
        )
        require_volumes(self.probabilities, self.nifti)
        require_table(self.sides(), self.clinical, None)
        require_engine_can(self.engine, self.device, self.precision)
        require(self.max_pixels >= 1, "--max-pixels", "at least 1", self.max_pixels)

    def sides(self) -> tuple[float | str, ...] | None:
        """Distance of slices, rows and columns, numbers or clinical columns; None if it is not known."""
        return None if self.spacing is None else spacing_sides(self.spacing)
