"""What may be wrong with a scan's files, and the rules by which a decoded file is accepted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from slicemill.types import Uri


class Reason(StrEnum):
    """Why a file or a scan was set aside: a closed list."""

    NOT_A_TIFF = "not_a_tiff"
    """A file named .tif or .tiff does not begin as a TIFF does."""
    NOT_A_PNG = "not_a_png"
    """A file named .png does not begin as a PNG does."""
    TRUNCATED = "truncated"
    """The file ends before the data that its tags promise."""
    UNREADABLE = "unreadable"
    """The file can't be fetched, its tags contradict each other, or its data does not decompress."""
    TOO_LARGE = "too_large"
    """The slice has more pixels, strips or tiles, or the file more bytes, than the limit."""
    TOO_SLOW = "too_slow"
    """Decoding the scan took more processor time than the limit."""
    UNEXPECTED_SHAPE = "unexpected_shape"
    """Another number of channels, or other rows and columns than most slices of the scan."""
    UNEXPECTED_DEPTH = "unexpected_depth"
    """Pixels of a type that is not accepted: an image's are unsigned whole numbers of 8 or 16 bits."""
    DEPTH_AMBIGUOUS = "depth_ambiguous"
    """16-bit values lie at both ends of the range and not between, as signed numbers without their tag do."""
    SEVERAL_FRAMES = "several_frames"
    """One file holds several images: directories, an ImageJ stack in one directory, an animation."""
    UNKNOWN_SAMPLE = "unknown_sample"
    """A sample beyond the colours does not say that it is alpha, or alpha has changed the colours."""
    MASK_NOT_BINARY = "mask_not_binary"
    """A mask holds values besides 0 and one that means tumour: 1, or the largest of its type."""
    MASK_SEVERAL_CLASSES = "mask_several_classes"
    """The masks of the scan hold several classes, and none is known to be the tumour."""
    MASK_AMBIGUOUS = "mask_ambiguous"
    """A mask can be read in two ways: colours against alpha, or stored values against how they are shown."""
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


def usual_shape(shapes: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
    """The shape that most slices of a scan have; of equals, the larger."""
    counts = Counter(shapes)
    return max(counts, key=lambda shape: (counts[shape], shape))
