"""Read one scan's files into a checked `Scan`: the one decode that ingest, training and scoring share."""

from __future__ import annotations

import re
from dataclasses import dataclass

from slicemill.core.scans.discovery import FoundFile, ScanTask, SliceFiles, discover
from slicemill.core.scans.integrity import BadImageError, Problem, Reason, binary_mask, eight_bit, usual_shape
from slicemill.core.scans.scan import MaskStatus, Scan, Slice
from slicemill.errors import InputError
from slicemill.io import storage
from slicemill.io.raw.tiff import count_values, decode_slice, decode_tiff
from slicemill.io.storage.uri import is_s3
from slicemill.types import FilePixels, SliceMask

#: A file may hold this many bytes beyond four 16-bit channels of the largest slice.
_SPARE_BYTES = 1 << 20


@dataclass(frozen=True)
class _Read:
    """One slice after its own decode; the scan's rules come later."""

    files: SliceFiles
    pixels: FilePixels | None
    notes: tuple[str, ...]
    mask: SliceMask | None
    mask_status: MaskStatus
    problems: tuple[Problem, ...]


def read_scan(task: ScanTask, max_pixels: int) -> Scan:
    """Fetch, check and decode a scan; what is wrong becomes a problem and the rest goes on.

    A slice whose mask is bad is kept without it and marked `rejected`.
    """
    reads = storage.each(
        lambda files: _read_slice(files, task.scan_id, max_pixels),
        task.slices,
        task.slices[0].image.uri if task.slices else None,
    )
    problems = [*task.problems, *(problem for read in reads for problem in read.problems)]
    good = [read for read in reads if read.pixels is not None]
    if good:
        good, misfits = _of_usual_shape(good, task.scan_id)
        problems += misfits
    images = eight_bit([read.pixels for read in good if read.pixels is not None])
    slices = [
        Slice(
            slice_index=read.files.slice_index,
            image=image,
            mask=read.mask,
            histogram=count_values(image),
            mask_status=read.mask_status,
            source_uri=read.files.image.uri,
            conversion="; ".join(read.notes) or None,
        )
        for read, image in zip(good, images, strict=True)
    ]
    return Scan(task.scan_id, task.patient_id, tuple(slices), tuple(task.settled(problems)))


def unchanged(task: ScanTask) -> bool:
    """Whether the scan's folders still hold what was listed: nothing was added, replaced or removed."""
    files = [
        FoundFile(file.uri, file.size, file.version)
        for folder in task.folders
        for file in storage.list_or_none(folder)
    ]
    # Names are part of the fingerprint; whose scan it is takes no part in it.
    scans = discover(files, re.compile(""), roots=task.folders).scans
    return [scan.fingerprint for scan in scans] == [task.fingerprint]


def _of_usual_shape(reads: list[_Read], scan_id: str) -> tuple[list[_Read], list[Problem]]:
    usual = usual_shape([read.pixels.shape for read in reads if read.pixels is not None])
    fitting, misfits = [], []
    for read in reads:
        if read.pixels is not None and read.pixels.shape == usual:
            fitting.append(read)
            continue
        found = "x".join(map(str, read.pixels.shape[:2])) if read.pixels is not None else None
        misfits.append(
            Problem(
                read.files.image.uri,
                scan_id,
                Reason.UNEXPECTED_SHAPE,
                "the slice differs in size from most of its scan",
                found,
                "x".join(map(str, usual[:2])),
            )
        )
    return fitting, misfits


def _read_slice(files: SliceFiles, scan_id: str, max_pixels: int) -> _Read:
    problems: list[Problem] = []
    try:
        data = _fetch(files.image, max_pixels)
        decoded = decode_slice(data, max_pixels)
        problems += _differing(files.image, files.image_copies, data, scan_id, max_pixels)
    except BadImageError as bad:
        problem = bad.at(files.image.uri, scan_id)
        return _Read(files, None, (), None, "absent", (problem,))
    mask: SliceMask | None = None
    status: MaskStatus = "absent"
    if files.mask is not None:
        try:
            mask_data = _fetch(files.mask, max_pixels)
            mask = _decode_mask(mask_data, decoded.pixels.shape[:2], max_pixels)
            status = "present"
            clashes = _differing(files.mask, files.mask_copies, mask_data, scan_id, max_pixels)
            problems += clashes
        except BadImageError as bad:
            problems.append(bad.at(files.mask.uri, scan_id))
            status = "rejected"
    return _Read(files, decoded.pixels, decoded.notes, mask, status, tuple(problems))


def _decode_mask(data: bytes, shape: tuple[int, ...], max_pixels: int) -> SliceMask:
    mask = binary_mask(decode_tiff(data, max_pixels).pixels)
    if mask.shape != shape:
        raise BadImageError(
            Reason.MASK_SHAPE_DIFFERS,
            "the mask has another size than its image",
            "x".join(map(str, mask.shape)),
            "x".join(map(str, shape)),
        )
    return mask


def _fetch(file: FoundFile, max_pixels: int) -> bytes:
    limit = 8 * max_pixels + _SPARE_BYTES
    if file.size > limit:
        raise BadImageError(Reason.TOO_LARGE, "the file is too large", f"{file.size} bytes", f"{limit} bytes")
    try:
        data = storage.read_bytes(file.uri)
    except InputError as error:
        if is_s3(file.uri) and not isinstance(error.__cause__, FileNotFoundError | PermissionError):
            # Storage that does not answer says nothing about the file.
            raise
        raise BadImageError(
            Reason.UNREADABLE, "the file can't be fetched", error.found, "a readable file"
        ) from error
    return data


def _differing(
    taken: FoundFile, copies: tuple[FoundFile, ...], data: bytes, scan_id: str, max_pixels: int
) -> list[Problem]:
    """Problems of those copies that are not equal to the file that was taken."""
    problems = []
    for copy in copies:
        # A modification time says nothing about content; an ETag does.
        same_tag = copy.version == taken.version and copy.uri.startswith("s3://")
        try:
            if copy.size == taken.size and (same_tag or _fetch(copy, max_pixels) == data):
                continue
        except BadImageError as bad:
            problems.append(bad.at(copy.uri, scan_id))
            continue
        problems.append(
            Problem(
                copy.uri,
                scan_id,
                Reason.DUPLICATE_SLICE,
                "another file of the same slice has other content",
                f"{copy.size} bytes",
                "a copy equal to the file that was taken",
            )
        )
    return problems
