"""What may be wrong with a scan's files, and the rules by which a decoded file is accepted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from slicemill.types import FilePixels, SliceImage, SliceMask, Uri


class Reason(StrEnum):
    """Why a file or a scan was set aside: a closed list."""

    NOT_A_TIFF = "not_a_tiff"
    """The file does not begin as a TIFF does."""
    TRUNCATED = "truncated"
    """The file ends before the data that its tags promise."""
    UNREADABLE = "unreadable"
    """The file can't be fetched, its tags contradict each other, or its data does not decompress."""
    TOO_LARGE = "too_large"
    """The slice has more pixels, or the file more bytes, than the limit."""
    UNEXPECTED_SHAPE = "unexpected_shape"
    """Another number of channels, or other rows and columns than most slices of the scan."""
    UNEXPECTED_DEPTH = "unexpected_depth"
    """Pixels that are not unsigned whole numbers of 8 or 16 bits."""
    SEVERAL_FRAMES = "several_frames"
    """One file holds several images."""
    MASK_NOT_BINARY = "mask_not_binary"
    """A mask holds values besides 0 and one of 1, 255 or 65535."""
    MASK_SHAPE_DIFFERS = "mask_shape_differs"
    """A mask has other rows and columns than its image."""
    ORPHAN_MASK = "orphan_mask"
    """A mask has no image beside it."""
    UNPARSABLE_NAME = "unparsable_name"
    """A TIFF is not named <scan_id>_<n>.tif or <scan_id>_<n>_mask.tif after its folder."""
    DUPLICATE_SLICE = "duplicate_slice"
    """Two files claim to be the same slice and differ in content."""
    EMPTY_FOLDER = "empty_folder"
    """A folder holds nothing."""
    DUPLICATE_SCAN = "duplicate_scan"
    """Another folder of a scan's name holds other files than the scan's."""
    UNUSABLE_NAME = "unusable_name"
    """A folder's name is not UTF-8, or is too long to be part of a stored name."""


@dataclass(frozen=True)
class Problem:
    """One file or scan that is set aside: a quarantine row before its job and time are known."""

    uri: Uri
    scan_id: str | None
    reason: Reason
    detail: str
    found: str | None = None
    expected: str | None = None


class BadImageError(Exception):
    """One file is no acceptable image; becomes a `Problem`."""

    def __init__(self, reason: Reason, detail: str, found: object = None, expected: object = None) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail
        self.found = None if found is None else str(found)
        self.expected = None if expected is None else str(expected)

    def at(self, uri: Uri, scan_id: str | None) -> Problem:
        """The problem of the file at `uri`."""
        return Problem(uri, scan_id, self.reason, self.detail, self.found, self.expected)


def binary_mask(pixels: FilePixels) -> SliceMask:
    """A decoded mask file, axes (H, W, C), as a uint8 0/1 mask, axes (H, W).

    Raises BadImageError unless all channels are equal and every value is 0 or one of 1, 255, 65535.
    """
    plane = pixels[..., 0]
    if not (pixels == plane[..., None]).all():
        raise BadImageError(
            Reason.MASK_NOT_BINARY, "the mask has colours", f"{pixels.shape[-1]} channels", "one channel"
        )
    mask: SliceMask = (plane != 0).view(np.uint8)
    high = int(plane.max())
    if high and (
        high not in (1, 255, 65535) or int(plane.sum(dtype=np.int64)) != high * int(np.count_nonzero(mask))
    ):
        values = np.unique(plane)
        raise BadImageError(
            Reason.MASK_NOT_BINARY,
            "the mask is not binary",
            f"{values.size} values from {int(values[0])} to {int(values[-1])}",
            "0 and one of 1, 255, 65535",
        )
    return mask


def usual_shape(shapes: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
    """The shape that most slices of a scan have; of equals, the larger."""
    counts = Counter(shapes)
    return max(counts, key=lambda shape: (counts[shape], shape))


def eight_bit(images: Sequence[FilePixels]) -> list[SliceImage]:
    """Bring the slices of one scan, axes (H, W, C) each, to uint8.

    8-bit slices stay as they are. 16-bit slices are scaled by the largest value that each channel has in
    the 16-bit slices of the scan, so that slices keep their relation: round(value * 255 / largest).
    """
    deep = [image for image in images if image.dtype == np.uint16]
    if not deep:
        return [np.ascontiguousarray(image, dtype=np.uint8) for image in images]
    largest = np.max([image.max(axis=(0, 1)) for image in deep], axis=0).astype(np.float64)
    scale = 255.0 / np.maximum(largest, 1.0)
    return [
        np.rint(image * scale).astype(np.uint8)
        if image.dtype == np.uint16
        else np.ascontiguousarray(image, dtype=np.uint8)
        for image in images
    ]
