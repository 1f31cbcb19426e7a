"""Read one scan's files into a checked `Scan`: the one decode that ingest, training and scoring share."""

from __future__ import annotations

import hashlib
import re
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace

from slicemill.core.rasters.images import SlicePixels
from slicemill.core.rasters.masks import MaskFile
from slicemill.core.scans.discovery import FoundFile, ScanTask, SliceFiles, discover
from slicemill.core.scans.integrity import BadImageError, Problem, Reason
from slicemill.core.scans.scan import Scan, Source
from slicemill.errors import MissingFileError
from slicemill.io import storage
from slicemill.io.raw.assemble import SliceRead, assemble
from slicemill.io.raw.decode import decode_mask, decode_slice

#: A file may hold this many bytes beyond four 16-bit channels of the largest slice.
_SPARE_BYTES = 1 << 20

#: Seconds of processor time that decoding one scan may take: some hundred times what a large one needs.
DECODE_SECONDS = 600.0


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
    slices, problems = assemble(reads, task.scan_id)
    sources = tuple(source for read in reads for source in read.sources)
    settled = task.settled([*task.problems, *problems])
    return Scan(task.scan_id, task.patient_id, tuple(slices), tuple(settled), sources)


def _too_slow(task: ScanTask, clock: _Clock) -> Problem:
    return Problem(
        task.folders[0],
        task.scan_id,
        Reason.TOO_SLOW,
        "decoding the scan took too long",
        f"over {clock.spent:.0f} s of processor time",
        f"at most {clock.limit:.0f} s",
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


def _read_slice(files: SliceFiles, scan_id: str, max_pixels: int, clock: _Clock) -> SliceRead:
    if clock.over:
        return SliceRead(files, None, None, "absent", ())
    sources: list[Source] = []

    def fetch(file: FoundFile) -> bytes:
        data = _fetch(file, max_pixels)
        sources.append(Source(file.uri, hashlib.sha256(data).hexdigest()))
        return data

    read = read_files(files, scan_id, max_pixels, fetch, clock)
    return replace(read, sources=tuple(sources))


def read_files(
    files: SliceFiles,
    scan_id: str,
    max_pixels: int,
    fetch: Callable[[FoundFile], bytes],
    clock: AbstractContextManager[None],
) -> SliceRead:
    """Decode a slice's image and mask from the bytes that `fetch` gives, within `clock`."""
    try:
        data = fetch(files.image)
        with clock:
            image = decode_slice(data, max_pixels, files.image.uri)
        problems = _differing(files.image, files.image_copies, data, scan_id, fetch)
    except BadImageError as bad:
        return SliceRead(files, None, None, "absent", (bad.at(files.image.uri, scan_id),))
    read = SliceRead(files, image, None, "absent", tuple(problems))
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
