"""A folder's files as one scan, and what becomes of other folders of the same name.

All files of a scan come from one folder. Another folder of the name is a copy if it shares images with the
scan, holds nothing beyond it, and its files are equal; else it is set aside as a whole.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import NamedTuple

from slicemill.core.scans.integrity import Problem, Reason
from slicemill.core.scans.patients import Identity
from slicemill.types import Uri


class FoundFile(NamedTuple):
    """A file of a listing: its URI, size in bytes, and version (ETag, or times in ns).

    A pipe, a device or a socket has the size -1.
    """

    uri: Uri
    size: int
    version: str


@dataclass(frozen=True)
class SliceFiles:
    """The files of one slice; `copies` claim to be the same image or mask and must be equal to it."""

    slice_index: int
    image: FoundFile
    mask: FoundFile | None = None
    image_copies: tuple[FoundFile, ...] = ()
    mask_copies: tuple[FoundFile, ...] = ()


@dataclass(frozen=True)
class ScanTask:
    """One scan to read: the unit of work of ingest and of scoring.

    `folder` is the URI that its files lie in; `folders` has those of the same name too, sorted.
    """

    identity: Identity
    folder: Uri
    folders: tuple[Uri, ...]
    slices: tuple[SliceFiles, ...]
    problems: tuple[Problem, ...]
    fingerprint: str

    @property
    def scan_id(self) -> str:
        """Name of the scan."""
        return self.identity.scan_id

    @property
    def patient_id(self) -> str:
        """Patient that the scan belongs to."""
        return self.identity.patient_id

    @property
    def institution(self) -> str | None:
        """Institution in the scan's name."""
        return self.identity.institution

    @property
    def scan_date(self) -> date | None:
        """Date in the scan's name."""
        return self.identity.scan_date

    @property
    def size(self) -> int:
        """Bytes to read."""
        return sum(files.image.size + (files.mask.size if files.mask else 0) for files in self.slices)

    @property
    def files(self) -> int:
        """Image and mask files, those set aside by name included."""
        return sum(1 + (files.mask is not None) for files in self.slices) + len(self.problems)

    def settled(self, problems: Iterable[Problem]) -> list[Problem]:
        """Problems of the scan's files, those of copies in another folder as one problem of that folder."""
        problems_by_folder: dict[Uri, list[Problem]] = defaultdict(list)
        settled = []
        for problem in problems:
            folder = Uri(problem.uri.rpartition("/")[0])
            if folder != self.folder and folder in self.folders and problem.uri not in self.folders:
                problems_by_folder[folder].append(problem)
            else:
                settled.append(problem)
        for folder, (first, *_) in sorted(problems_by_folder.items()):
            name = first.uri.rpartition("/")[2]
            settled.append(_other_folder(folder, self.scan_id, f"{name} differs", self.folder))
        return settled


@dataclass
class Folder:
    """The pictures that lie in one folder: images and masks by slice number, in listed order."""

    uri: Uri
    images: dict[int, list[FoundFile]] = field(default_factory=dict)
    masks: dict[int, list[FoundFile]] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    files: list[FoundFile] = field(default_factory=list)

    @property
    def named(self) -> dict[str, FoundFile]:
        """Files by name."""
        return {file.uri.rpartition("/")[2]: file for file in self.files}


def scan_task(identity: Identity, folder: Folder, other_folders: Sequence[Folder]) -> ScanTask:
    """The scan that `folder` is; `other_folders` are further folders of its name."""
    problems = [*folder.problems, *_orphans(identity.scan_id, folder)]
    copies: list[Folder] = []
    for other in other_folders:
        difference = _difference(folder, other)
        if difference is None:
            copies.append(other)
        else:
            problems.append(_other_folder(other.uri, identity.scan_id, difference, folder.uri))
    return ScanTask(
        identity,
        folder.uri,
        tuple(sorted([folder.uri, *(other.uri for other in other_folders)])),
        tuple(_slice_files(number, folder, copies) for number in sorted(folder.images)),
        tuple(problems),
        _fingerprint([folder, *other_folders]),
    )


def _difference(folder: Folder, other: Folder) -> str | None:
    """How the listing shows that `other` is no copy of `folder`; None if only its files' content can."""
    names, mine = other.named, folder.named
    images = {file.uri.rpartition("/")[2] for files in other.images.values() for file in files}
    if not images & mine.keys():
        return "no image in common"
    for name, file in sorted(names.items()):
        if name in mine and mine[name].size != file.size:
            return f"{name} has {file.size} bytes, not {mine[name].size}"
    surplus = sorted(names.keys() - mine.keys())
    return f"{len(surplus)} files more, such as {surplus[0]}" if surplus else None


def _slice_files(number: int, folder: Folder, copies: Sequence[Folder]) -> SliceFiles:
    image, *image_copies = folder.images[number]
    masks = list(folder.masks.get(number, []))
    for copy in copies:
        image_copies += copy.images.get(number, [])
        # A copy has no file that the scan's folder lacks: where there is no mask yet, none is added.
        masks += copy.masks.get(number, [])
    return SliceFiles(number, image, masks[0] if masks else None, tuple(image_copies), tuple(masks[1:]))


def _orphans(scan_id: str, folder: Folder) -> Iterable[Problem]:
    for number in sorted(folder.masks.keys() - folder.images.keys()):
        for mask in folder.masks[number]:
            yield Problem(
                mask.uri,
                scan_id,
                Reason.ORPHAN_MASK,
                "the mask has no image beside it",
                f"mask of slice {number}",
                "an image of the same number in the same folder",
            )


def _other_folder(uri: Uri, scan_id: str, difference: str, folder: Uri) -> Problem:
    return Problem(
        uri,
        scan_id,
        Reason.DUPLICATE_SCAN,
        "another folder has this name and is not a copy: the whole folder is set aside; rename it, or see "
        "--scan-pattern patient/study",
        difference,
        f"the files of {folder}",
    )


def _fingerprint(folders: Sequence[Folder]) -> str:
    """Hash of the names, sizes and versions of a scan's files; of other folders too, as they count."""
    digest = hashlib.blake2b(digest_size=16)
    for position, folder in enumerate(folders):
        if position:
            digest.update(b"\0folder\n")
        for name, file in sorted(folder.named.items()):
            digest.update(f"{name}\0{file.size}\0{file.version}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()
