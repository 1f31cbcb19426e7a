"""From raw URIs to scans: one listing and one discovery, for ingest and scoring alike."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence

from slicemill.core.scans.discovery import Discovery, FoundFile, discover
from slicemill.core.scans.patients import BUILT_IN_PATTERNS, fitting_pattern
from slicemill.errors import ConfigError, InputError
from slicemill.io import storage
from slicemill.io.storage.uri import canonical, display

log = logging.getLogger(__name__)

#: Folders and files that a warning names; the lake's findings name more.
_NAMED = 5


def scan_pattern(text: str) -> re.Pattern[str]:
    """The scan pattern of this name, or this regular expression, compiled.

    Raises ConfigError if it is neither, or does not say where the patient's id is.
    """
    try:
        pattern = re.compile(BUILT_IN_PATTERNS.get(text, text))
    except re.error as error:
        raise ConfigError(
            "--scan-pattern is not a regular expression",
            expected="one of " + ", ".join(BUILT_IN_PATTERNS) + ", or a regular expression",
            found=str(error),
        ) from error
    if "patient_id" not in pattern.groupindex:
        raise ConfigError(
            "--scan-pattern does not say whose scan a folder is",
            expected="a group (?P<patient_id>...), or one of " + ", ".join(BUILT_IN_PATTERNS),
            found=text,
        )
    return pattern


def list_raw(raw: Sequence[str]) -> list[storage.StoredFile]:
    """List every raw URI once; raise InputError for one that is not there."""
    return [file for uri in raw for file in storage.list_files(canonical(uri))]


def find_scans(
    raw: Sequence[str],
    files: Sequence[storage.StoredFile],
    pattern: re.Pattern[str],
    *,
    patients: Mapping[str, str] | None = None,
    own: Sequence[str] = (),
) -> Discovery:
    """Group what `list_raw` found into scans; raise InputError if there is none.

    `patients` gives patients by scan id and goes before the pattern. `own` are folders that slicemill writes
    to: what lies in them is not raw. Says in the log what may not be as it was meant.
    """
    roots = [canonical(uri) for uri in raw]
    discovery = discover(
        (FoundFile(file.uri, file.size, file.version) for file in files),
        pattern,
        patients=patients,
        roots=roots,
        own=[canonical(uri) for uri in own],
    )
    _warn(discovery)
    if not discovery.scans:
        counts = ", ".join(f"{count} {name}" for name, count in discovery.ignored.items())
        raise InputError(
            f"no TIFF or PNG slices below {', '.join(map(display, roots))}",
            expected="scan folders with <scan_id>_<n>.tif files",
            found=counts or f"{len(discovery.problems)} folders that can't be used",
            advice="Point --raw at the folder that holds the scan folders.",
        )
    return discovery


def _warn(discovery: Discovery) -> None:
    unmatched = discovery.unmatched
    if unmatched:
        advice = "see --scan-pattern and --patients"
        fitting = fitting_pattern(scan.folder for scan in unmatched)
        if fitting:
            advice = f"--scan-pattern {fitting[0]} would match {fitting[1]} of them; " + advice
        log.warning(
            "the scan pattern does not match %d of %d folders: each counts as a patient of its own: %s; %s",
            len(unmatched),
            len(discovery.scans),
            _some([scan.scan_id for scan in unmatched]),
            advice,
        )
    for name, places in discovery.other_formats.items():
        log.warning(
            "%d %s files are not read: %s", sum(places.values()), name, _some([*map(display, places)])
        )


def _some(names: Sequence[str]) -> str:
    ending = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + ending
