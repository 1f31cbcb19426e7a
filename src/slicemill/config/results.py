"""What a user can set of scoring and of the report."""

from __future__ import annotations

import re
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
class ScoreConfig:
    """Write predicted masks and per-patient Dice for new scan folders, or for a part of a split."""

    out: str
    """Folder or s3:// URI of the scores."""
    model: str | None = None
    """Folder or s3:// URI of a training run."""
    raw: tuple[str, ...] = ()
    """Folder or s3:// URI of new scan folders, with or without masks. Repeat the flag for several."""
    lake: str | None = None
    """Instead of --raw: the lake, with --split and --part."""
    split: str | None = None
    """Split of the lake."""
    part: str = "test"
    """Part of the split, or fold-K in a split of folds."""
    ready_marker: str | None = None
    """Score a folder only once an object of this name, such as _READY, is in it."""
    quiet_minutes: float = 0.0
    """Score a folder only once its newest object is this old: for senders that leave no marker."""
    batch_size: int | None = None
    """Slices per forward pass; by default 64 on a GPU, and on a CPU what a trial finds fastest."""
    threshold: float | None = None
    """Probability from which a pixel is tumour; the model card's by default."""
    tta: Literal["auto", "none", "flips"] = "auto"
    """Mean over the slice and its flips, at four times the work; auto if that paid on the validation part."""
    components: Literal["auto", "all", "largest"] = "auto"
    """Connected components of a scan's mask to keep; auto as did better on the model's validation part."""
    smoothing: Literal["auto", "none", "slices"] = "auto"
    """Average a slice's probabilities with its neighbours'; auto as did better on the validation part."""
    nifti: bool = False
    """Write each scan's mask as NIfTI too."""
    probabilities: bool = False
    """With --nifti: each scan's tumour probabilities too, a byte a voxel."""
    outlines: bool = False
    """Write a PNG with outlines of every slice that has a predicted or a true tumour."""
    spacing: str | None = None
    """Distance of slices, rows, columns, dz,dy,dx: millimetres or clinical columns, for HD95 and volumes."""
    clinical: str | None = None
    """Clinical table (CSV) of the columns that --spacing names; with --lake the lake's own by default."""
    track: bool = False
    """Log the scores to the MLflow run that the model's training was logged to."""
    boxes: Literal["auto", "off", "on"] = "auto"
    """Compute the box of a slice that holds the head, and take the rest for air; auto is off."""
    compare_with: str | None = None
    """Folder or s3:// URI of another model's scores: compare Dice patient by patient (this minus that)."""
    verify: bool = False
    """Score nothing: check what is in --out against the manifest's hashes; exit code 3 if any differs."""
    scan_pattern: str = PUBLIC_SCAN_PATTERN
    """Regular expression for scan folders, with the named groups patient_id, institution, scan_date."""
    max_pixels: int = MAX_PIXELS
    """Largest slice that is accepted, in pixels."""
    precision: Literal["auto", "fp32", "bf16", "int8"] = "auto"
    """Arithmetic of the forward pass; auto takes bf16 where the hardware has it; int8 needs `quantise`."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Device of every worker; auto takes a GPU if one is there."""
    engine: Literal["auto", "torch", "onnx"] = "auto"
    """What computes the network: torch, ONNX Runtime on a CPU, or auto: the faster one on every worker."""
    max_bad_fraction: float = 1.0
    """Exit with code 3 if more than this fraction of files was set aside (everything is still written)."""

    def __post_init__(self) -> None:
        single_text_as_tuple(self)
        if self.verify:
            return
        if not self.model:
            raise ConfigError("--model is missing", expected="the folder of a training run", found="none")
        if bool(self.raw) == bool(self.lake):
            raise ConfigError(
                "scans come from one place",
                expected="--raw, or --lake with --split",
                found="both" if self.raw else "neither",
            )
        if self.lake and not self.split:
            raise ConfigError("--lake lacks its split", expected="--split NAME", found="none")
        if self.ready_marker is not None:
            plain = bool(self.ready_marker) and not re.search(r"[/\\]|\.tiff?$", self.ready_marker)
            require(plain, "--ready-marker", "a file name that is not a slice's", self.ready_marker)
        require_volumes(self.probabilities, self.nifti)
        require_table(self.sides(), self.clinical, self.lake)
        require(self.quiet_minutes >= 0, "--quiet-minutes", "0 or more", self.quiet_minutes)
        require(
            self.batch_size is None or self.batch_size >= 1, "--batch-size", "at least 1", self.batch_size
        )
        require(
            self.threshold is None or 0 < self.threshold < 1, "--threshold", "between 0 and 1", self.threshold
        )
        require(0 <= self.max_bad_fraction <= 1, "--max-bad-fraction", "0 to 1", self.max_bad_fraction)
        require_engine_can(self.engine, self.device, self.precision)

    def sides(self) -> tuple[float | str, ...] | None:
        """Distance of slices, rows and columns, numbers or clinical columns; None if it is not known."""
        return None if self.spacing is None else spacing_sides(self.spacing)


@dataclass(frozen=True)
class ExportConfig:
    """Write a trained model as a file that other programs run, compared with torch, beside its card."""

    model: str
    """Folder or s3:// URI of a training run or a committee, or a pointer to one."""
    out: str
    """Folder or s3:// URI for model.onnx, model.json and export.json."""
    to: Literal["onnx"] = "onnx"
    """Format of the file."""


@dataclass(frozen=True)
class QuantiseConfig:
    """Store a trained network in int8 beside its weights, if held-back scans lose little Dice by it."""

    model: str
    """Folder or s3:// URI of a training run, or a pointer to one."""
    lake: str
    """Folder or s3:// URI of the lake."""
    split: str
    """Name of a split of the lake."""
    part: str = "val"
    """Part whose scans calibrate and judge: val, test or fold-K; not one that the network was trained on."""
    max_loss: float = 0.002
    """Store nothing, and exit with code 3, if int8 costs more of the mean Dice than this."""
    max_scan_loss: float = 0.03
    """The same for the scan that loses most."""

    def __post_init__(self) -> None:
        require(self.part != "train", "--part", "scans that the network was not trained on", self.part)
        require(0 <= self.max_loss <= 1, "--max-loss", "0 to 1", self.max_loss)
        require(0 <= self.max_scan_loss <= 1, "--max-scan-loss", "0 to 1", self.max_scan_loss)


@dataclass(frozen=True)
class ReportConfig:
    """Draw one self-contained HTML page from any of lake, run and scores."""

    out: str
    """Folder or s3:// URI of the report."""
    lake: str | None = None
    """Folder or s3:// URI of the lake."""
    run: str | None = None
    """Folder or s3:// URI of a training run."""
    scores: str | None = None
    """Folder or s3:// URI of scores."""
    raw: tuple[str, ...] = ()
    """Folder or s3:// URI of raw scan folders, for pictures of scans that no lake holds. Repeat the flag."""
    scan: tuple[str, ...] = ()
    """Scan to draw a page of, besides the best and the worst. Repeat the flag for several."""
    contact_sheets: bool = False
    """Draw a picture of all slices of each scored scan too, in sheets/ beside the page."""

    def __post_init__(self) -> None:
        single_text_as_tuple(self)
        if not (self.lake or self.run or self.scores):
            raise ConfigError(
                "nothing to report on", expected="at least one of --lake, --run, --scores", found="none"
            )
