"""Which scan folders are complete, and which are still being written."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from slicemill.core.scans.discovery import ScanTask


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
    ) -> frozenset[str]:
        """Ids of scans with a folder that is not complete.

        `files` are URI and time of change of every listed file, whatever its name; times are in seconds since
        1970.
        """
        marked: set[str] = set()
        newest: dict[str, float] = {}
        for uri, modified in files:
            folder, _, name = uri.rpartition("/")
            newest[folder] = max(modified, newest.get(folder, modified))
            if name == self.marker:
                marked.add(folder)

        def complete(folder: str) -> bool:
            quiet = not self.quiet or newest.get(folder, now) <= now - self.quiet
            return quiet and (self.marker is None or folder in marked)

        return frozenset(scan.scan_id for scan in scans if not all(map(complete, scan.folders)))
