"""Slices that lie in no scan folder: files that a person names, bytes that a service is sent.

They go through the decode and the rules of `io.raw.scan_reader`, so a slice gives the same image either way.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cached_property

from slicemill.core.scans.folders import FoundFile, SliceFiles
from slicemill.core.scans.integrity import BadImageError, Problem, Reason
from slicemill.core.scans.scan import Scan
from slicemill.errors import InputError
from slicemill.io import storage
from slicemill.io.raw.assemble import SliceRead, assemble
from slicemill.io.raw.numpy_file import decode_npy
from slicemill.io.raw.scan_reader import read_files
from slicemill.io.storage.uri import display, is_s3, local_path
from slicemill.types import Uri

#: What the name of a file that can be read ends in.
SUFFIXES = (".tif", ".tiff", ".png", ".npy")
#: Bytes of one file that are read at most.
MAX_BYTES = 1 << 31

_NUMBER = re.compile(r"_(\d{1,9})$")
_MASK = re.compile(r"_mask$", re.IGNORECASE)


@dataclass(frozen=True)
class LooseFile:
    """A file's URI, whose name says what it holds, and its bytes."""

    uri: Uri
    data: bytes

    @cached_property
    def suffix(self) -> str:
        """The name's suffix in lower case, with its dot."""
        return "." + self.uri.lower().rpartition(".")[2]

    @cached_property
    def stem(self) -> str:
        """The URI without its suffix."""
        return self.uri[: -len(self.suffix)]

    @property
    def is_mask(self) -> bool:
        """Whether the name says that it is the mask of another file."""
        return self.suffix != ".npy" and _MASK.search(self.stem) is not None


def read_loose(uri: Uri) -> LooseFile:
    """Read a file that a person named.

    Raises InputError for a suffix that is not read, and for what is not a file of at most `MAX_BYTES`.
    """
    if LooseFile(uri, b"").suffix not in SUFFIXES:
        raise _refused(uri, f"a name that ends in {', '.join(SUFFIXES)}", uri.rpartition("/")[2])
    if not is_s3(uri) and local_path(uri).exists():
        if not local_path(uri).is_file():
            raise _refused(uri, "a file", "a folder, a pipe or a device")
        size = local_path(uri).stat().st_size
        if size > MAX_BYTES:
            raise _refused(uri, f"at most {MAX_BYTES} bytes", f"{size} bytes")
    return LooseFile(uri, storage.read_bytes(uri))


def _refused(uri: Uri, expected: str, actual: str) -> InputError:
    return InputError(
        f"{display(uri)} can't be read as slices",
        expected=expected,
        found=actual,
        advice="Give TIFF, PNG or NumPy files, or one scan folder.",
    )


def loose_scan(files: Sequence[LooseFile], scan_id: str, max_pixels: int) -> Scan:
    """One scan of these files, each with a suffix of `SUFFIXES`; what can't be used is in its problems.

    Slices are in the order of the numbers at the ends of their names if each has one of its own, and there is
    no array among them; else in the order of `files`, and numbered from 1. A file `<name>_mask` is the mask
    of the file `<name>` beside it.
    """
    masks = {_MASK.sub("", file.stem): file for file in files if file.is_mask}
    data = {file.uri: file.data for file in files}
    reads: list[SliceRead] = []
    for number, file in _numbered([file for file in files if not file.is_mask]):
        following = reads[-1].files.slice_index + 1 if reads else 1
        image = FoundFile(file.uri, len(file.data), "")
        if file.suffix == ".npy":
            reads += _array_reads(file, image, following, scan_id, max_pixels)
            continue
        mask = masks.pop(file.stem, None)
        label = FoundFile(mask.uri, len(mask.data), "") if mask else None
        pair = SliceFiles(following if number is None else number, image, label)
        reads.append(read_files(pair, scan_id, max_pixels, lambda source: data[source.uri], nullcontext()))
    slices, problems = assemble(reads, scan_id)
    orphans = [_orphan(mask, scan_id) for mask in masks.values()]
    return Scan(scan_id, scan_id, tuple(slices), (*problems, *orphans))


def _numbered(images: Sequence[LooseFile]) -> list[tuple[int | None, LooseFile]]:
    """Images with the numbers of their names, in that order; without numbers where they tell no order."""
    numbers = [int(match[1]) for file in images if (match := _NUMBER.search(file.stem))]
    arrays = any(file.suffix == ".npy" for file in images)
    if arrays or len(set(numbers)) != len(images):
        return [(None, file) for file in images]
    return [
        (number, file) for number, _, file in sorted(zip(numbers, range(len(images)), images, strict=True))
    ]


def _array_reads(
    file: LooseFile, image: FoundFile, first: int, scan_id: str, max_pixels: int
) -> list[SliceRead]:
    """The slices of an array, numbered from `first`."""
    try:
        planes = decode_npy(file.data, max_pixels)
    except BadImageError as error:
        return [SliceRead(SliceFiles(first, image), None, None, "absent", (error.at(file.uri, scan_id),))]
    return [
        SliceRead(SliceFiles(first + place, image), plane, None, "absent", ())
        for place, plane in enumerate(planes)
    ]


def _orphan(mask: LooseFile, scan_id: str) -> Problem:
    return Problem(
        mask.uri,
        scan_id,
        Reason.ORPHAN_MASK,
        "the mask has no image beside it",
        "a mask alone",
        "an image of the same name without _mask",
    )
