"""The scans of a lake as `arms.py` trains on them and judges by them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from slicemill.core.scans.channels import ChannelMode, input_normalisation, input_slices, layout_for
from slicemill.core.scans.normalise import Rule, from_histogram
from slicemill.core.scans.scan import Scan
from slicemill.io.lake.reader import read_lake_scan, read_scans
from slicemill.io.storage.uri import canonical


@dataclass(frozen=True)
class ScanArrays:
    """A scan: images uint8 (S, H, W, C), masks uint8 0/1 (S, H, W), normalisation float32 (C, 4)."""

    scan_id: str
    images: npt.NDArray[np.uint8]
    masks: npt.NDArray[np.uint8]
    normalisation: npt.NDArray[np.float32]
    box: tuple[int, int, int]
    """Top, left and side of the square of the source that the network sees, in pixels."""


@dataclass(frozen=True)
class LakeScan:
    """A scan of the lake, and the names of the sequences that it lacks."""

    scan: Scan
    missing_sequences: tuple[str, ...]


def load_scans(lake: str, judge: float) -> tuple[list[LakeScan], list[LakeScan]]:
    """The lake's labelled scans, those that train and those that judge; a patient is on one side."""
    home = canonical(lake)
    parts: tuple[list[LakeScan], list[LakeScan]] = ([], [])
    for row in read_scans(home):
        # The public data set has a mask for each slice.
        if row.labelled_slices == row.slices:
            digest = hashlib.blake2b(row.patient_id.encode(), digest_size=4).digest()
            judges = int.from_bytes(digest, "big") / 2**32 < judge
            parts[judges].append(LakeScan(read_lake_scan(home, row), tuple(row.missing_sequences)))
    return parts


def scan_arrays(stored: LakeScan, normalisation: Rule, crop: bool, channels: ChannelMode) -> ScanArrays:
    """A scan as an arm reads it: normalised by this rule, cut to the head or whole, with these channels."""
    scan = stored.scan
    layout = layout_for(channels, stored.missing_sequences)
    images = np.asarray(input_slices(list(scan.images), layout))
    masks = np.stack([np.asarray(entry.mask) for entry in scan.slices])
    histogram = np.sum([entry.histogram for entry in scan.slices], axis=0)
    return ScanArrays(
        scan.scan_id,
        images,
        masks,
        input_normalisation(from_histogram(histogram, normalisation), layout),
        _square(_brain(images)) if crop else (0, 0, max(images.shape[1:3])),
    )


def _brain(images: npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_]:
    """Voxels of the head: brighter in some channel than a tenth of the channel's 99th percentile."""
    return (images > 0.1 * np.percentile(images, 99, axis=(0, 1, 2))).any(axis=3)


def _square(brain: npt.NDArray[np.bool_]) -> tuple[int, int, int]:
    """The smallest square within the slice that holds the head of all slices, but for stray voxels."""
    spans = []
    for axis in (0, 1):
        counts = brain.sum(axis=(0, 2 - axis))
        inside = np.flatnonzero(counts > 0.01 * counts.max())
        spans.append((int(inside[0]), int(inside[-1]) + 1))
    side = min(max(stop - start for start, stop in spans) + 4, min(brain.shape[1:]))
    corner = [
        min(max((start + stop - side) // 2, 0), extent - side)
        for (start, stop), extent in zip(spans, brain.shape[1:], strict=True)
    ]
    return corner[0], corner[1], side
