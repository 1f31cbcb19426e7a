"""The summary of a run that compared what is stored with what was committed."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

log = logging.getLogger(__name__)


class Check(Protocol):
    """What one commit's check says: names of files that are missing, and of those that changed."""

    @property
    def missing(self) -> Sequence[str]:
        """Names of missing files."""
        ...

    @property
    def changed(self) -> Sequence[str]:
        """Names of files with other content."""
        ...


def verification(job: str, counts: Mapping[str, int], checks: Sequence[Check], limit: int) -> dict[str, Any]:
    """The summary line of a job's checks, which falls short if a file is missing or changed.

    `counts` is what was verified. The log names every such file, the summary the first `limit`.
    """
    missing = sorted(name for check in checks for name in check.missing)
    changes = sorted(name for check in checks for name in check.changed)
    for state, names in (("missing", missing), ("changed", changes)):
        for name in names:
            log.error("%s: %s", state, name)
    return {
        "job": job,
        "status": "data_short" if missing or changes else "done",
        **counts,
        "missing": len(missing),
        "changed": len(changes),
        "named": [*missing, *changes][:limit],
    }
