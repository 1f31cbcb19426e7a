"""The one scan that a person names: a scan folder, or some files of it."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence

from slicemill.core.scans.integrity import Problem
from slicemill.core.scans.patients import identify
from slicemill.core.scans.scan import Scan
from slicemill.errors import ConfigError, InputError
from slicemill.io import storage
from slicemill.io.raw.listing import find_scans, list_raw, scan_pattern
from slicemill.io.raw.loose import SUFFIXES, LooseFile, loose_scan, read_loose
from slicemill.io.raw.scan_reader import read_scan
from slicemill.io.storage.uri import canonical, display, is_s3, local_path
from slicemill.types import Uri

#: Problems that an error names.
_NAMED = 3


def read_one_scan(paths: Sequence[str], pattern: str, max_pixels: int) -> Scan:
    """The slices of one scan folder, or of these files, checked and decoded as scoring does.

    Raises InputError if a path can't be read, is not one scan, or leaves no usable slice; ConfigError for a
    pattern that names no patient.
    """
    compiled = scan_pattern(pattern)
    uris = [canonical(path) for path in paths]
    folders = [uri for uri in uris if _is_folder(uri)]
    if folders and len(uris) > 1:
        raise ConfigError(
            "predict takes one scan",
            expected="one scan folder, or files of one scan",
            found=f"{len(uris)} paths, {len(folders)} of them folders",
            advice="slicemill score predicts many scans.",
        )
    scan = (
        _folder_scan(folders[0], compiled, max_pixels) if folders else _files_scan(uris, compiled, max_pixels)
    )
    if not scan.slices:
        raise InputError(
            f"scan {scan.scan_id} has no usable slice",
            expected="at least one TIFF, PNG or NumPy image",
            found="; ".join(map(_words, scan.problems[:_NAMED])) or "no image",
        )
    return scan


def _words(problem: Problem) -> str:
    return f"{display(problem.uri).rpartition('/')[2]}: {problem.detail}"


def _is_folder(uri: Uri) -> bool:
    if not is_s3(uri):
        return local_path(uri).is_dir()
    return not uri.lower().endswith(SUFFIXES)


def _folder_scan(uri: Uri, pattern: re.Pattern[str], max_pixels: int) -> Scan:
    try:
        scans = find_scans([uri], list_raw([uri]), pattern).scans
    except InputError as error:
        advice = "Give the folder of one scan, with <scan_id>_<n>.tif files, or the files themselves."
        raise InputError(error.problem, expected=error.expected, found=error.found, advice=advice) from error
    if len(scans) > 1:
        raise InputError(
            f"{display(uri)} holds more than one scan",
            expected="the folder of one scan",
            found=f"{len(scans)} scans",
            advice="slicemill score --raw predicts them all.",
        )
    return read_scan(scans[0], max_pixels)


def _files_scan(uris: Sequence[Uri], pattern: re.Pattern[str], max_pixels: int) -> Scan:
    files = storage.each(read_loose, dict.fromkeys(uris), uris[0])
    folder = _folder_name(files)
    scan = loose_scan(files, folder or files[0].stem.rpartition("/")[2], max_pixels)
    # A folder that its files are named after is a scan's; any other says nothing of a patient.
    patient = identify(folder, pattern, {}).patient_id if folder else ""
    return dataclasses.replace(scan, patient_id=patient)


def _folder_name(files: Sequence[LooseFile]) -> str | None:
    """The name of the folder that all files lie in, if it begins the name of each."""
    folders = {file.uri.rpartition("/")[0] for file in files}
    name = min(folders).rpartition("/")[2]
    stems = [file.stem.rpartition("/")[2] for file in files]
    return name if len(folders) == 1 and all(stem.startswith(f"{name}_") for stem in stems) else None
