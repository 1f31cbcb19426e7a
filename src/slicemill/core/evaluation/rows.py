"""Rows of a score folder's tables as types: a scan of a patient, a slice, and an entry of the manifest.

Their fields are the columns of `slicemill.schemas` by the same names; `tests/io/test_score_rows.py` compares.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True)
class ScanScore:
    """A row of the patients table: a patient's scan as one model scored it.

    Volumes are in voxels, those that end in ml need a `spacing`; hd95 is in millimetres with one, in pixels
    without. Numbers that need a truth or a mask are None without one. Errors are those of
    `core.evaluation.mistakes`; what follows is of `core.evaluation.confidence` and `triage`.
    """

    patient_id: str
    scan_id: str
    dice: float | None = None
    iou: float | None = None
    slice_mean_dice: float | None = None
    hd95: float | None = None
    predicted_volume: int | None = None
    true_volume: int | None = None
    predicted_volume_ml: float | None = None
    true_volume_ml: float | None = None
    slices: int = 0
    labelled_slices: int = 0
    quarantined: int = 0
    warnings: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    threshold: float = 0.5
    model_id: str = ""
    scored_at: datetime | None = None
    seen: bool | None = None
    missed_voxels: int | None = None
    false_voxels: int | None = None
    border_voxels: int | None = None
    expected_dice: float | None = None
    look_first: tuple[str, ...] | None = None
    voxels_by_probability: tuple[int, ...] | None = None
    tumour_by_probability: tuple[int, ...] | None = None
    channel_mean: tuple[float, ...] | None = None
    channel_p50: tuple[float, ...] | None = None
    channel_p90: tuple[float, ...] | None = None
    channel_p99: tuple[float, ...] | None = None
    engine: str | None = None
    engine_difference: float | None = None
    engine_mask_share: float | None = None
    spacing: tuple[float, ...] | None = None
    manifest: str = ""


@dataclass(frozen=True)
class ScoredSlice:
    """A row of the scored slices: areas in pixels, `mask` packed by numpy.packbits; None where not known.

    A column that was not read has its default.
    """

    slice_index: int = 0
    height: int = 0
    width: int = 0
    mask: bytes | None = None
    tumour_pixels: int | None = None
    true_pixels: int | None = None
    overlap_pixels: int | None = None
    max_probability: float = 0.0
    dice: float | None = None


@dataclass(frozen=True)
class ManifestEntry:
    """A finished scan: its scores, what they were made from, and the outputs with their SHA-256."""

    score: ScanScore
    source_fingerprint: str
    outputs: tuple[str, ...]
    output_hashes: tuple[str, ...]
    job_id: str
