"""From a listing to scans: which files are slices, masks, copies of each other, or none of our business.

The result depends on the set of files only, never on their order or on how often one is listed.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import date
from typing import NamedTuple

from slicemill.core.balance import balanced
from slicemill.core.scans.integrity import Problem, Reason
from slicemill.types import Uri

_TIFF_NAME = re.compile(r"(?P<stem>.+)\.tiff?", re.IGNORECASE)
_SLICE_NAME = re.compile(r"_(?P<number>\d{1,9})(?P<mask>_mask)?", re.IGNORECASE)


class FoundFile(NamedTuple):
    """A file of a listing: its URI, size in bytes, and version (ETag, or modification time in ns)."""

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
    """One scan to read: the unit of work of ingest and of scoring."""

    scan_id: str
    patient_id: str
    institution: str | None
    scan_date: date | None
    slices: tuple[SliceFiles, ...]
    problems: tuple[Problem, ...]
    fingerprint: str

    @property
    def size(self) -> int:
        """Bytes to read."""
        return sum(one.image.size + (one.mask.size if one.mask else 0) for one in self.slices)

    @property
    def folders(self) -> tuple[str, ...]:
        """URIs of the folders that its files lie in, sorted."""
        uris = [problem.uri for problem in self.problems]
        for one in self.slices:
            masks = (one.mask,) if one.mask else ()
            uris += [file.uri for file in (one.image, *masks, *one.image_copies, *one.mask_copies)]
        return tuple(sorted({uri.rpartition("/")[0] for uri in uris}))

    @property
    def files(self) -> int:
        """Image and mask files, those set aside by name included."""
        return sum(1 + (one.mask is not None) for one in self.slices) + len(self.problems)


@dataclass(frozen=True)
class Discovery:
    """What a listing holds: scans sorted by id, problems outside any scan, and files that were ignored."""

    scans: tuple[ScanTask, ...]
    problems: tuple[Problem, ...]
    ignored: dict[str, int]


@dataclass
class _Folder:
    images: dict[int, list[FoundFile]] = field(default_factory=lambda: defaultdict(list))
    masks: dict[int, list[FoundFile]] = field(default_factory=lambda: defaultdict(list))
    problems: list[Problem] = field(default_factory=list)
    files: set[tuple[str, int, str]] = field(default_factory=set)


def patient_of(scan_id: str, pattern: re.Pattern[str]) -> tuple[str, str | None, date | None]:
    """Patient id, institution and date in a scan's name; a name that does not match is its own patient."""
    match = pattern.fullmatch(scan_id)
    named = match.groupdict() if match else {}
    patient_id = named.get("patient_id") or scan_id
    return patient_id, named.get("institution"), _day(named.get("scan_date"))


def _day(text: str | None) -> date | None:
    try:
        return date(int(text[:4]), int(text[4:6]), int(text[6:8])) if text and len(text) == 8 else None
    except ValueError:
        return None


def discover(files: Iterable[FoundFile], pattern: re.Pattern[str]) -> Discovery:
    """Group a listing into scans by the folder that each TIFF lies in.

    Folders of one name are one scan, however deep they lie (the public archive holds everything twice). Of
    several files for one slice the one nearest to the root is taken, the first by name among equals.
    """
    folders: dict[str, _Folder] = defaultdict(_Folder)
    loose: list[Problem] = []
    ignored: Counter[str] = Counter()
    listed = set(files)
    parents = {file.uri.rstrip("/").rpartition("/")[0] for file in listed}
    for file in sorted(listed, key=lambda file: (file.uri.count("/"), file.uri)):
        if file.uri.endswith("/"):
            if file.uri.rstrip("/") not in parents:
                loose.append(_empty(file.uri))
            continue
        _sort_in(file, folders, ignored)
    scans = [_scan(scan_id, folder, pattern) for scan_id, folder in sorted(folders.items())]
    return Discovery(
        tuple(scans), tuple(sorted(loose, key=lambda problem: problem.uri)), dict(sorted(ignored.items()))
    )


def _empty(uri: Uri) -> Problem:
    name = uri.rstrip("/").rpartition("/")[2]
    return Problem(uri, name, Reason.EMPTY_FOLDER, "the folder holds nothing", "no files", "slices of a scan")


def _sort_in(file: FoundFile, folders: dict[str, _Folder], ignored: Counter[str]) -> None:
    folder_uri, _, name = file.uri.rpartition("/")
    scan_id = folder_uri.rpartition("/")[2]
    tiff = _TIFF_NAME.fullmatch(name)
    if name.startswith((".", "_")) or scan_id.startswith("."):
        ignored["hidden"] += 1
        return
    if tiff is None:
        ignored[name.rpartition(".")[2].lower() if "." in name else "no suffix"] += 1
        return
    folder = folders[scan_id]
    folder.files.add((name, file.size, file.version))
    stem = tiff["stem"]
    parsed = _SLICE_NAME.fullmatch(stem[len(scan_id) :]) if stem.startswith(scan_id) else None
    if parsed is None:
        expected = f"{scan_id}_<n>.tif or {scan_id}_<n>_mask.tif"
        folder.problems.append(
            Problem(file.uri, scan_id, Reason.UNPARSABLE_NAME, "the name is not a slice's", name, expected)
        )
        return
    group = folder.masks if parsed["mask"] else folder.images
    group[int(parsed["number"])].append(file)


def _scan(scan_id: str, folder: _Folder, pattern: re.Pattern[str]) -> ScanTask:
    problems = list(folder.problems)
    for number in sorted(folder.masks.keys() - folder.images.keys()):
        for mask in folder.masks[number]:
            problems.append(
                Problem(
                    mask.uri,
                    scan_id,
                    Reason.ORPHAN_MASK,
                    "the mask has no image beside it",
                    f"mask of slice {number}",
                    "an image of the same number",
                )
            )
    slices = []
    for number in sorted(folder.images):
        image, *image_copies = folder.images[number]
        masks = folder.masks.get(number, [])
        slices.append(
            SliceFiles(number, image, masks[0] if masks else None, tuple(image_copies), tuple(masks[1:]))
        )
    patient_id, institution, scan_date = patient_of(scan_id, pattern)
    return ScanTask(
        scan_id,
        patient_id,
        institution,
        scan_date,
        tuple(slices),
        tuple(problems),
        _fingerprint(folder.files),
    )


def _fingerprint(files: set[tuple[str, int, str]]) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for name, size, version in sorted(files):
        digest.update(f"{name}\0{size}\0{version}\n".encode())
    return digest.hexdigest()


def pack(tasks: Iterable[ScanTask], parts: int) -> list[list[ScanTask]]:
    """Share scans out over at most `parts` parts of about equal bytes, the largest scans first."""
    largest_first = sorted(tasks, key=lambda task: (-task.size, task.scan_id))
    shares = balanced(largest_first, lambda task: task.size + 1, max(1, parts))
    return [share for share in shares if share]
