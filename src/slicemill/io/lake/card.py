"""A lake's card: the schema version, the layout, and the pattern that its scan folders are named by."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from typing import Any

from slicemill.config.lake import FIRST_SCAN_PATTERN, PUBLIC_SCAN_PATTERN
from slicemill.errors import ConfigError, InputError
from slicemill.io import storage
from slicemill.io.places import Lake
from slicemill.io.schema_version import require_schema_version
from slicemill.io.storage.uri import display
from slicemill.schemas import SCHEMA_VERSION
from slicemill.types import Uri


@dataclass(frozen=True)
class LakeCard:
    """What stays the same for the life of a lake: buckets of patients, and the scan pattern's regex."""

    bucket: int
    scan_pattern: str
    schema_version: int = SCHEMA_VERSION


def require_lake(home: Uri) -> None:
    """Raise InputError if there is no lake, LakeVersionError if it is of another schema version."""
    if not storage.exists(Lake(home).card):
        raise InputError(
            f"{display(home)} is not a lake",
            expected="a folder that slicemill ingest wrote",
            found="no lake.json",
            advice="Check --lake, or run slicemill ingest first.",
        )
    _check_version(home, storage.read_json(Lake(home).card))


def open_lake(home: Uri, bucket: int, pattern: re.Pattern[str]) -> None:
    """Make the lake, or check that it has this layout.

    Raises LakeVersionError for another schema version, ConfigError for another layout.
    """
    card = LakeCard(bucket, pattern.pattern)
    if not storage.exists(Lake(home).card):
        storage.write_json(Lake(home).card, asdict(card))
        return
    stored = storage.read_json(Lake(home).card)
    _check_version(home, stored)
    _check("--bucket", stored.get("bucket"), bucket)
    # Today's public pattern took the place of the first, and finds its patients too.
    first = pattern.pattern == PUBLIC_SCAN_PATTERN and stored.get("scan_pattern") == FIRST_SCAN_PATTERN
    if not first:
        _check("--scan-pattern", stored.get("scan_pattern"), pattern.pattern)


def _check_version(home: Uri, stored: Any) -> None:
    advice = "Ingest again into a new folder, or use the release that wrote it."
    require_schema_version(stored, f"the lake {display(home)}", advice)


def _check(flag: str, expected: object, value: object) -> None:
    if expected != value:
        raise ConfigError(
            f"{flag} differs from the lake's",
            expected=expected,
            found=value,
            advice="Use the lake's, or a new lake.",
        )
