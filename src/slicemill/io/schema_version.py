"""The schema version that every stored folder carries, checked in one way."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from slicemill.errors import LakeVersionError
from slicemill.schemas import SCHEMA_VERSION


def require_schema_version(stored: Mapping[str, Any], subject: str, advice: str) -> None:
    """Raise LakeVersionError if a folder's JSON is of another schema version than this release's."""
    version = stored.get("schema_version")
    if version != SCHEMA_VERSION:
        raise LakeVersionError(
            f"{subject} was written by another schema version",
            expected=SCHEMA_VERSION,
            found=version,
            advice=advice,
        )
