"""Rows of a lake's small tables as values: fields are the columns of `slicemill.schemas`, in stored order."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

from slicemill.core.profiles.drift import Appearance
from slicemill.core.scans.integrity import Problem
from slicemill.schemas import SCHEMA_VERSION

T = TypeVar("T")

Counts: TypeAlias = npt.NDArray[np.integer[Any]]


@dataclass(frozen=True)
class ScanRow:
    """A row of `schemas.SCANS`; what is measured in grey values has a value a channel."""

    patient_id: str
    scan_id: str
    scan_date: date | None
    institution: str | None
    slices: int
    labelled_slices: int
    tumour_slices: int
    tumour_fraction: float
    tumour_voxel_fraction: float
    tumour_pixels: int
    rejected_masks: int
    height: int
    width: int
    min: Sequence[float]
    max: Sequence[float]
    mean: Sequence[float]
    std: Sequence[float]
    p01: Sequence[float]
    p10: Sequence[float]
    p50: Sequence[float]
    p90: Sequence[float]
    p99: Sequence[float]
    missing_sequences: Sequence[str]
    slice_gaps: Sequence[int]
    blank_slices: Sequence[int]
    copied_channel_slices: int
    quarantined: int
    data_uri: str
    source_fingerprint: str
    content_hash: str
    job_id: str
    implausible_masks: Sequence[int] | None = None
    doubts: Sequence[str] | None = None
    schema_version: int = SCHEMA_VERSION

    @property
    def appearance(self) -> Appearance:
        """What the scan is compared by with those that a model was trained on."""
        names = (field.name for field in dataclasses.fields(Appearance))
        return Appearance(**{name: getattr(self, name) for name in names})


@dataclass(frozen=True)
class TotalsRow:
    """A row of `schemas.TOTALS`: counts of grey values, (C x 256,), and of tumour pixels, (64 x 64,).

    The driver holds those of all scans at once: nearly 5,000 counts each, in the smallest type that fits.
    """

    scan_id: str
    patient_id: str
    histogram: Counts
    heat_map: Counts
    image_hashes: Sequence[bytes]
    schema_version: int = SCHEMA_VERSION

    def __post_init__(self) -> None:
        for name in ("histogram", "heat_map"):
            object.__setattr__(self, name, _smallest(getattr(self, name)))


@dataclass(frozen=True)
class QuarantineRow:
    """A row of `schemas.QUARANTINE`."""

    uri: str
    scan_id: str | None
    reason: str
    detail: str
    found: str | None
    expected: str | None
    job_id: str
    time: datetime
    schema_version: int = SCHEMA_VERSION

    @classmethod
    def of(cls, problem: Problem, job_id: str, time: datetime) -> QuarantineRow:
        """The row of a problem that a job saw."""
        return cls(
            problem.uri,
            problem.scan_id,
            str(problem.reason),
            problem.detail,
            problem.found,
            problem.expected,
            job_id,
            time,
        )


def _smallest(counts: Sequence[int] | Counts) -> Counts:
    numbers = np.asarray(counts, np.int64)
    return numbers.astype(np.min_scalar_type(int(numbers.max(initial=0))))


def columns(row: ScanRow | TotalsRow | QuarantineRow) -> dict[str, Any]:
    """A row's values by column, for Parquet."""
    return {field.name: getattr(row, field.name) for field in dataclasses.fields(row)}


def from_columns(kind: type[T], stored: Mapping[str, Any]) -> T:
    """A stored row as a value; columns of a later release, and clinical ones, are left out.

    A column that an earlier release did not write takes its default.
    """
    names = {field.name for field in dataclasses.fields(kind)}  # type: ignore[arg-type]  # rows are dataclasses
    return kind(**{name: value for name, value in stored.items() if name in names})
