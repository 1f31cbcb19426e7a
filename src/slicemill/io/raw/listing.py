"""From raw URIs to scans: one listing and one discovery, for ingest and scoring alike."""

from __future__ import annotations

import re
from collections.abc import Sequence

from slicemill.core.scans.discovery import Discovery, FoundFile, discover
from slicemill.errors import ConfigError, InputError
from slicemill.io import storage
from slicemill.io.storage.uri import canonical, display


def scan_pattern(text: str) -> re.Pattern[str]:
    """The scan pattern, compiled; raise ConfigError if it is none."""
    try:
        return re.compile(text)
    except re.error as error:
        raise ConfigError("--scan-pattern is no regular expression", found=str(error)) from error


def list_raw(raw: Sequence[str]) -> list[storage.StoredFile]:
    """List every raw URI once; raise InputError for one that is not there."""
    return [file for uri in raw for file in storage.list_files(canonical(uri))]


def find_scans(
    raw: Sequence[str], files: Sequence[storage.StoredFile], pattern: re.Pattern[str]
) -> Discovery:
    """Group what `list_raw` found into scans; raise InputError if there is no TIFF."""
    found = discover((FoundFile(file.uri, file.size, file.version) for file in files), pattern)
    if not found.scans:
        raise InputError(
            f"no TIFF slices below {', '.join(display(canonical(uri)) for uri in raw)}",
            expected="scan folders with <scan_id>_<n>.tif files",
            found=f"{len(files)} other files",
            advice="Point --raw at the folder that holds the scan folders.",
        )
    return found
