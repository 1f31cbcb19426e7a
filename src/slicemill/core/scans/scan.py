"""One decoded scan: what ingest stores and what the network sees, the same for both."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np

from slicemill.core.scans.integrity import Problem
from slicemill.types import Histograms, ScanImages, SliceImage, SliceMask, Spacing, Uri

MaskStatus = Literal["present", "absent", "rejected"]

#: Names of the three channels, in the public data set's order.
SEQUENCES = ("pre-contrast", "FLAIR", "post-contrast")
FLAIR = 1


@dataclass(frozen=True)
class Slice:
    """One accepted slice: uint8 image (H, W, 3), uint8 0/1 mask (H, W) or None.

    `histogram` counts the pixels of each grey value per channel: int64, (3, 256).
    """

    slice_index: int
    image: SliceImage
    mask: SliceMask | None
    histogram: Histograms
    mask_status: MaskStatus
    source_uri: Uri
    conversion: str | None = None

    @cached_property
    def image_hash(self) -> bytes:
        """SHA-256 of the pixels."""
        return hashlib.sha256(np.ascontiguousarray(self.image).data).digest()

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of what the files hold, however they hold it: the image's hash, and the mask."""
        digest = hashlib.sha256(self.image_hash)
        if self.mask is not None:
            digest.update(np.ascontiguousarray(self.mask).data)
        return digest.hexdigest()


@dataclass(frozen=True)
class Source:
    """A file that a scan was read from, and the SHA-256 of the bytes that were read."""

    uri: Uri
    sha256: str


@dataclass(frozen=True)
class Scan:
    """A scan's accepted slices in slice order, all of one shape, and what was set aside.

    `spacing` is in millimetres, None where it is not known: TIFF files do not say it.
    """

    scan_id: str
    patient_id: str
    slices: tuple[Slice, ...]
    problems: tuple[Problem, ...]
    sources: tuple[Source, ...] = ()
    spacing: Spacing | None = None

    @property
    def images(self) -> ScanImages:
        """uint8, axes (S, H, W, C)."""
        return np.stack([slice_.image for slice_ in self.slices])
