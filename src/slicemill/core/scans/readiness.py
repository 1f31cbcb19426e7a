"""Which scan folders are complete, and which are still being written."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from slicemill.core.scans.discovery import ScanTask

#: A folder that waits for longer is named: its sender may have died, or its clock may be wrong.
LONG_WAIT_SECONDS = 86_400.0


@dataclass(frozen=True)
class Readiness:
    """When a folder counts as complete; both rules must hold, and without any every folder is.

    `marker`: name of an object that its sender writes last. `quiet`: seconds since the folder's newest object
    was written.
    """

    marker: str | None = None
    quiet: float = 0.0

    def waiting(
        self, scans: Iterable[ScanTask], files: Iterable[tuple[str, float]], now: float
    ) -> dict[str, bool]:
        """Ids of scans with a folder that is not complete, and whether they have waited for too long.

        `files` are URI and time of change of every listed file, whatever its name; times are in seconds since
        1970, all by one clock. A wait is too long a day after the folder's first object, or if a time
        lies in the future.
        """
        ages = _Ages(files, self.marker)
        waiting = {}
        for scan in scans:
            incomplete = [folder for folder in scan.folders if not self._complete(folder, ages, now)]
            if incomplete:
                waiting[scan.scan_id] = any(ages.overdue(folder, now) for folder in incomplete)
        return waiting

    def _complete(self, folder: str, ages: _Ages, now: float) -> bool:
        quiet = not self.quiet or ages.newest.get(folder, now) <= now - self.quiet
        return quiet and (self.marker is None or folder in ages.marked)


class _Ages:
    """First and last time of change in each folder, and which folders hold the marker."""

    def __init__(self, files: Iterable[tuple[str, float]], marker: str | None) -> None:
        self.marked: set[str] = set()
        self.newest: dict[str, float] = {}
        self.oldest: dict[str, float] = {}
        for uri, modified in files:
            folder, _, name = uri.rpartition("/")
            self.newest[folder] = max(modified, self.newest.get(folder, modified))
            self.oldest[folder] = min(modified, self.oldest.get(folder, modified))
            if name == marker:
                self.marked.add(folder)

    def overdue(self, folder: str, now: float) -> bool:
        """Whether the folder's first object came long ago, or its last has a time that is yet to come."""
        long_ago = self.oldest.get(folder, now) < now - LONG_WAIT_SECONDS
        return long_ago or self.newest.get(folder, now) > now + 1.0
