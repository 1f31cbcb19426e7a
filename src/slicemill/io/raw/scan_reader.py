"""Read one scan's files into a checked `Scan`: the one decode that ingest, training and scoring share."""

from __future__ import annotations

import hashlib
import re
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from slicemill.core.rasters.images import SlicePixels, eight_bit
from slicemill.core.rasters.masks import MaskFile, scan_masks
from slicemill.core.scans.discovery import FoundFile, ScanTask, SliceFiles, discover
from slicemill.core.scans.integrity import BadImageError, Problem, Reason, usual_shape
from slicemill.core.scans.scan import MaskStatus, Scan, Slice, Source
from slicemill.errors import MissingFileError
from slicemill.io import storage
from slicemill.io.raw.decode import decode_mask, decode_slice
from slicemill.io.raw.tiff import count_values
from slicemill.types import SliceImage, SliceMask

#: A file may hold this many bytes beyond four 16-bit channels of the largest slice.
_SPARE_BYTES = 1 << 20

#: Seconds of processor time that decoding one scan may take: some hundred times what a large one needs.
DECODE_SECONDS = 600.0


@dataclass(frozen=True)
class _Read:
    """One slice after its own decode; the scan's rules come later."""

    files: SliceFiles
    image: SlicePixels | None
    mask: MaskFile | None
    mask_status: MaskStatus
    problems: tuple[Problem, ...]
    sources: tuple[Source, ...] = ()


@dataclass
class _Clock:
    """Processor time that decoding a scan has taken, over all threads, in seconds."""

    limit: float
    spent: float = 0.0
    _started: threading.local = field(default_factory=threading.local)

    @property
    def over(self) -> bool:
        return self.spent > self.limit

    def __enter__(self) -> None:
        self._started.now = time.thread_time()

    def __exit__(self, *error: object) -> None:
        self.spent += time.thread_time() - self._started.now


def read_scan(task: ScanTask, max_pixels: int, seconds: float = DECODE_SECONDS) -> Scan:
    """Fetch, check and decode a scan; what is wrong becomes a problem and the rest goes on.

    A slice whose mask is bad is kept without it and marked `rejected`. A scan whose decoding takes more than
    `seconds` of processor time is set aside as a whole.
    """
    clock = _Clock(seconds)
    reads = storage.each(
        lambda files: _read_slice(files, task.scan_id, max_pixels, clock),
        task.slices,
        task.slices[0].image.uri if task.slices else None,
    )
    if clock.over:
        return Scan(task.scan_id, task.patient_id, (), (*task.problems, _too_slow(task, clock)))
    problems = [*task.problems, *(problem for read in reads for problem in read.problems)]
    good = [read for read in reads if read.image is not None]
    if good:
        good, misfits = _of_usual_shape(good, task.scan_id)
        problems += misfits
    good, images, unclear = _eight_bit(good, task.scan_id)
    masks, doubts = _masks(good, task.scan_id)
    slices = [
        _slice(read, image, masks.get(read.files.slice_index))
        for read, image in zip(good, images, strict=True)
    ]
    problems = task.settled([*problems, *unclear, *doubts])
    sources = tuple(source for read in reads for source in read.sources)
    return Scan(task.scan_id, task.patient_id, tuple(slices), tuple(problems), sources)


def _too_slow(task: ScanTask, clock: _Clock) -> Problem:
    return Problem(
        task.folders[0],
        task.scan_id,
        Reason.TOO_SLOW,
        "decoding the scan took too long",
        f"over {clock.spent:.0f} s of processor time",
        f"at most {clock.limit:.0f} s",
    )


def _eight_bit(reads: Sequence[_Read], scan_id: str) -> tuple[list[_Read], list[SliceImage], list[Problem]]:
    """The slices whose images become uint8, these images, and the problems of the others."""
    clear, images, problems = [], [], []
    for read, image in zip(reads, eight_bit([read.image for read in reads if read.image]), strict=True):
        if isinstance(image, BadImageError):
            problems.append(image.at(read.files.image.uri, scan_id))
        else:
            clear.append(read)
            images.append(image)
    return clear, images, problems


def _masks(reads: Sequence[_Read], scan_id: str) -> tuple[dict[int, SliceMask], list[Problem]]:
    """The masks of a scan that are believed, by slice index, and the problems of the others."""
    files = {read.files.slice_index: read.mask for read in reads if read.mask is not None}
    uris = {read.files.slice_index: read.files.mask.uri for read in reads if read.files.mask}
    masks, problems = {}, []
    for index, mask in zip(files, scan_masks(list(files.values())), strict=True):
        if isinstance(mask, BadImageError):
            problems.append(mask.at(uris[index], scan_id))
        else:
            masks[index] = mask
    return masks, problems


def _slice(read: _Read, image: SliceImage, mask: SliceMask | None) -> Slice:
    return Slice(
        slice_index=read.files.slice_index,
        image=image,
        mask=mask,
        histogram=count_values(image),
        mask_status="rejected" if read.mask_status == "present" and mask is None else read.mask_status,
        source_uri=read.files.image.uri,
        conversion="; ".join(read.image.notes if read.image else ()) or None,
    )


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
    shapes = [read.image.pixels.shape for read in reads if read.image]
    usual = usual_shape(shapes)
    misfits = [
        Problem(
            read.files.image.uri,
            scan_id,
            Reason.UNEXPECTED_SHAPE,
            "the slice differs in size from most of its scan",
            "x".join(map(str, shape[:2])),
            "x".join(map(str, usual[:2])),
        )
        for read, shape in zip(reads, shapes, strict=True)
        if shape != usual
    ]
    return [read for read, shape in zip(reads, shapes, strict=True) if shape == usual], misfits


def _read_slice(files: SliceFiles, scan_id: str, max_pixels: int, clock: _Clock) -> _Read:
    if clock.over:
        return _Read(files, None, None, "absent", ())
    sources: list[Source] = []

    def fetch(file: FoundFile) -> bytes:
        data = _fetch(file, max_pixels)
        sources.append(Source(file.uri, hashlib.sha256(data).hexdigest()))
        return data

    read = _read_files(files, scan_id, max_pixels, clock, fetch)
    return replace(read, sources=tuple(sources))


def _read_files(
    files: SliceFiles, scan_id: str, max_pixels: int, clock: _Clock, fetch: Callable[[FoundFile], bytes]
) -> _Read:
    try:
        data = fetch(files.image)
        with clock:
            image = decode_slice(data, max_pixels, files.image.uri)
        problems = _differing(files.image, files.image_copies, data, scan_id, fetch)
    except BadImageError as bad:
        return _Read(files, None, None, "absent", (bad.at(files.image.uri, scan_id),))
    read = _Read(files, image, None, "absent", tuple(problems))
    if files.mask is None:
        return read
    try:
        data = fetch(files.mask)
        with clock:
            mask = decode_mask(data, max_pixels, files.mask.uri)
        _check_mask_shape(mask, image)
    except BadImageError as bad:
        problems.append(bad.at(files.mask.uri, scan_id))
        return replace(read, mask_status="rejected", problems=tuple(problems))
    problems += _differing(files.mask, files.mask_copies, data, scan_id, fetch)
    return replace(read, mask=mask, mask_status="present", problems=tuple(problems))


def _check_mask_shape(mask: MaskFile, image: SlicePixels) -> None:
    shape, expected = mask.colour.nonzero.shape, image.pixels.shape[:2]
    if shape != expected:
        raise BadImageError(
            Reason.MASK_SHAPE_DIFFERS,
            "the mask has another size than its image",
            "x".join(map(str, shape)),
            "x".join(map(str, expected)),
        )


def _fetch(file: FoundFile, max_pixels: int) -> bytes:
    limit = 8 * max_pixels + _SPARE_BYTES
    if file.size > limit:
        raise BadImageError(Reason.TOO_LARGE, "the file is too large", f"{file.size} bytes", f"{limit} bytes")
    try:
        return storage.read_listed(file.uri, file.size, file.version)
    except MissingFileError as error:
        raise BadImageError(
            Reason.UNREADABLE, "the file is gone since it was listed", error.found, "a readable file"
        ) from error


def _differing(
    original: FoundFile,
    copies: tuple[FoundFile, ...],
    data: bytes,
    scan_id: str,
    fetch: Callable[[FoundFile], bytes],
) -> list[Problem]:
    """Problems of those copies that are not equal to the file that was taken."""
    problems = []
    for copy in copies:
        # A modification time says nothing about content; an ETag does.
        same_tag = copy.version == original.version and copy.uri.startswith("s3://")
        try:
            if copy.size == original.size and (same_tag or fetch(copy) == data):
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
