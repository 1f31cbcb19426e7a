"""From a listing to scans: which files are slices, masks, copies of each other, or none of our business.

The result depends on the set of files only, never on their order or on how often one is listed.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from slicemill.core.balance import balanced
from slicemill.core.scans.folders import Folder, FoundFile, ScanTask, SliceFiles, scan_task
from slicemill.core.scans.integrity import Problem, Reason
from slicemill.core.scans.patients import Identity, identify, normal
from slicemill.core.scans.surroundings import Surroundings
from slicemill.core.stored_names import fits
from slicemill.types import Uri

__all__ = ["Discovery", "FoundFile", "ScanTask", "SliceFiles", "discover", "pack"]

_PICTURE_NAME = re.compile(r"(?P<stem>.+)\.(?:tiff?|png)", re.IGNORECASE)
_SLICE_NAME = re.compile(r"_(?P<number>\d{1,9})(?P<mask>_mask)?", re.IGNORECASE)

#: Formats that may hold scans and are not read: a file may be a whole scan, or a slice.
_VOLUMES = re.compile(
    r"zip|tar|gz|tgz|bz2|xz|7z|rar|zst|nii|nii\.gz|mha|mhd|nrrd|mgz|mgh|img|hdr|svs|h5|hdf5|npy|npz|mat"
)
_PICTURES = re.compile(r"dcm|dicom|ima|jpe?g|bmp|gif|webp|jp2")

#: DICOM files often have no suffix, or end in a number. This many of them in a folder are named.
_MANY_BARE = 3


@dataclass(frozen=True)
class Discovery:
    """What a listing holds: scans sorted by id, problems outside any scan, and what was left alone.

    `ignored` counts files by suffix, hidden ones as `hidden` and slicemill's own as `own`. `other_formats`
    gives the number of files by format and URI, which is the file's if it may be a whole scan, else its
    folder's.
    """

    scans: tuple[ScanTask, ...]
    problems: tuple[Problem, ...]
    ignored: Mapping[str, int]
    other_formats: Mapping[str, Mapping[Uri, int]]

    @property
    def files(self) -> int:
        """Image and mask files, and what was set aside by its name."""
        return sum(scan.files for scan in self.scans) + len(self.problems)

    @property
    def unmatched(self) -> tuple[ScanTask, ...]:
        """Scans of which neither a list nor the pattern said whose they are."""
        return tuple(scan for scan in self.scans if scan.identity.basis == "folder")


def discover(
    files: Iterable[FoundFile],
    pattern: re.Pattern[str],
    *,
    patients: Mapping[str, str] | None = None,
    roots: Sequence[str] = (),
    own: Sequence[str] = (),
) -> Discovery:
    """Group a listing into scans by the folder that each TIFF or PNG lies in.

    `patients` gives patients by scan id and goes before the pattern. `roots` are the folders that were
    listed: only what is below them can be hidden. `own` are folders below a root that slicemill writes to.
    """
    ordered = sorted(set(files), key=lambda file: (file.uri.count("/"), file.uri))
    surroundings = Surroundings(roots, own, (file.uri for file in ordered))
    sorting = _Sorting(ordered, surroundings)
    by_scan: dict[str, list[tuple[Identity, Folder]]] = defaultdict(list)
    problems = list(sorting.problems)
    for folder in sorting.folders.values():
        identity = identify(surroundings.path(folder.uri), pattern, patients or {})
        if fits(identity.scan_id) and fits(identity.patient_id) and _is_text(folder.uri):
            by_scan[identity.scan_id].append((identity, folder))
        else:
            problems.append(_unusable(folder))
    scans = [scan_task(*_first_with_images(folders)) for _, folders in sorted(by_scan.items())]
    return Discovery(
        tuple(scans),
        tuple(sorted(problems, key=lambda problem: problem.uri)),
        dict(sorted(sorting.ignored.items())),
        {name: dict(sorted(places.items())) for name, places in sorted(sorting.other_formats.items())},
    )


def _first_with_images(folders: list[tuple[Identity, Folder]]) -> tuple[Identity, Folder, list[Folder]]:
    """The folder that a scan is, and others of its name: nearest to the root first, by name among equals."""
    # Sorting is stable, and the listing was sorted by depth and name.
    (identity, folder), *copies = sorted(folders, key=lambda pair: not pair[1].images)
    return identity, folder, [other for _, other in copies]


class _Sorting:
    """Every file of a listing where it belongs: into a folder, among the ignored, among the problems."""

    def __init__(self, files: Sequence[FoundFile], surroundings: Surroundings) -> None:
        self.folders: dict[str, Folder] = {}
        self.problems: list[Problem] = []
        self.ignored: Counter[str] = Counter()
        self.other_formats: dict[str, Counter[Uri]] = defaultdict(Counter)
        self._bare: Counter[str] = Counter()
        parents = {file.uri.rstrip("/").rpartition("/")[0] for file in files}
        for file in files:
            kind = surroundings.kind(file.uri)
            if kind is not None:
                if not file.uri.endswith("/"):
                    self.ignored[kind] += 1
            elif not file.uri.endswith("/"):
                self._sort_in(file)
            elif file.uri.rstrip("/") not in parents:
                self.problems.append(_empty(file.uri))
        self._name_bare_files()

    def _sort_in(self, file: FoundFile) -> None:
        folder_uri, _, name = file.uri.rpartition("/")
        picture = _PICTURE_NAME.fullmatch(name)
        if picture is None:
            self._leave(file.uri, folder_uri, name)
            return
        folder = self.folders.get(folder_uri)
        if folder is None:
            folder = self.folders[folder_uri] = Folder(Uri(folder_uri))
        folder.files.append(file)
        stem, prefix = normal(picture["stem"]), normal(folder_uri.rpartition("/")[2])
        parsed = _SLICE_NAME.fullmatch(stem[len(prefix) :]) if stem.startswith(prefix) else None
        if file.size < 0 or not _is_text(name):
            folder.problems.append(_unopenable(file, prefix))
        elif parsed is None:
            folder.problems.append(_unparsable(file, prefix, name))
        else:
            group = folder.masks if parsed["mask"] else folder.images
            group.setdefault(int(parsed["number"]), []).append(file)

    def _leave(self, uri: str, folder_uri: str, name: str) -> None:
        suffix = _suffix(name)
        self.ignored[suffix or "no suffix"] += 1
        if _VOLUMES.fullmatch(suffix):
            self.other_formats[suffix][printable(uri)] += 1
        elif _PICTURES.fullmatch(suffix):
            self.other_formats[suffix][printable(folder_uri)] += 1
        elif not suffix:
            self._bare[folder_uri] += 1

    def _name_bare_files(self) -> None:
        for uri, count in self._bare.items():
            if count >= _MANY_BARE and uri not in self.folders:
                self.other_formats["no suffix"][printable(uri)] += count


def _suffix(name: str) -> str:
    stem, dot, last = name.lower().rpartition(".")
    if not dot or not last.isascii() or last.isdecimal():
        return ""
    return f"nii.{last}" if stem.endswith(".nii") and last == "gz" else last


def _is_text(uri: str) -> bool:
    return uri.isascii() or uri == printable(uri)


def printable(uri: str) -> Uri:
    """A URI with each byte that is not UTF-8 as a backslash and its number: it can be stored, not opened."""
    return Uri(uri.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace"))


def _empty(uri: str) -> Problem:
    name = printable(uri).rstrip("/").rpartition("/")[2]
    return Problem(
        printable(uri), name, Reason.EMPTY_FOLDER, "the folder holds nothing", "no files", "slices of a scan"
    )


def _unusable(folder: Folder) -> Problem:
    return Problem(
        printable(folder.uri),
        None,
        Reason.UNUSABLE_NAME,
        "the folder's name can't become the name of a scan or a patient; rename the folder",
        f"{len(folder.uri.rpartition('/')[2].encode('utf-8', 'surrogateescape'))} bytes",
        "UTF-8 of at most 200 bytes, special characters counting three",
    )


def _unopenable(file: FoundFile, scan_id: str) -> Problem:
    if file.size < 0:
        return Problem(
            printable(file.uri),
            scan_id,
            Reason.UNREADABLE,
            "this is not a file that can be read to its end, so it was not opened",
            "a pipe, a device or a socket",
            "a file",
        )
    return _unparsable(file, scan_id, "a name that is not UTF-8")


def _unparsable(file: FoundFile, scan_id: str, file_name: str) -> Problem:
    expected = f"{scan_id}_<n>.tif or {scan_id}_<n>_mask.tif"
    return Problem(
        printable(file.uri), scan_id, Reason.UNPARSABLE_NAME, "the name is not a slice's", file_name, expected
    )


def pack(tasks: Iterable[ScanTask], parts: int) -> list[list[ScanTask]]:
    """Share scans out over at most `parts` parts of about equal bytes, the largest scans first."""
    largest_first = sorted(tasks, key=lambda task: (-task.size, task.scan_id))
    shares = balanced(largest_first, lambda task: task.size + 1, max(1, parts))
    return [share for share in shares if share]
