"""One scan from raw files to its commit, wherever it is worked on.

A scan that can't be read or written now, for whatever reason, fails alone and has no commit. The next run
reads it.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeAlias

from slicemill.core.profiles.scan_profile import ScanProfile
from slicemill.core.scans.discovery import ScanTask
from slicemill.errors import SlicemillError
from slicemill.io.lake.commits import ScanCommit
from slicemill.io.lake.writer import LakeWriter
from slicemill.io.process_memory import reuse_freed_memory
from slicemill.io.raw.scan_reader import read_scan
from slicemill.types import Uri

log = logging.getLogger(__name__)

#: Seconds between two lines of where an ingest in this process is.
_LOG_SECONDS = 5.0


@dataclass(frozen=True)
class ScanFailure:
    """A scan that has no commit, and why; the reason says nothing about its content."""

    scan_id: str
    reason: str


ScanResult: TypeAlias = ScanCommit | ScanFailure


@dataclass(frozen=True)
class IngestOutcome:
    """What became of the scans of a run."""

    commits: tuple[ScanCommit, ...] = ()
    failures: tuple[ScanFailure, ...] = ()

    @classmethod
    def of(cls, results: Iterable[ScanResult]) -> IngestOutcome:
        """The results apart, in their order; failures are logged."""
        commits: list[ScanCommit] = []
        failures: list[ScanFailure] = []
        for result in results:
            if isinstance(result, ScanCommit):
                commits.append(result)
            else:
                failures.append(result)
                log.error("%s: %s", result.scan_id, result.reason)
        return cls(tuple(commits), tuple(failures))


def ingest_scan(task: ScanTask, writer: LakeWriter, max_pixels: int, stale: Sequence[Uri] = ()) -> ScanCommit:
    """Read, check, profile, write and commit one scan; `stale` are its earlier commits.

    Nothing of an earlier state is removed before the scan was read.
    """
    scan = read_scan(task, max_pixels)
    return writer.write(task, scan, ScanProfile(scan) if scan.slices else None, stale)


def commit_or_failure(
    task: ScanTask, writer: LakeWriter, max_pixels: int, stale: Sequence[Uri] = ()
) -> ScanResult:
    """What `ingest_scan` gives, or why it gave nothing."""
    try:
        return ingest_scan(task, writer, max_pixels, stale).rows
    except SlicemillError as error:
        return ScanFailure(task.scan_id, str(error))
    except Exception as error:
        # What bad content raises is caught where it is decoded: this is the machine's fault, or ours.
        return ScanFailure(task.scan_id, f"{type(error).__name__}: {error}")


def ingest_in_this_process(
    writer: LakeWriter, tasks: Sequence[ScanTask], stale: Mapping[str, tuple[Uri, ...]], max_pixels: int
) -> IngestOutcome:
    """Ingest `tasks` on this machine's cores; `stale` are the commit URIs to replace, by scan id."""
    reuse_freed_memory()
    largest_first = sorted(tasks, key=lambda task: (-task.size, task.scan_id))
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        results = pool.map(
            lambda task: commit_or_failure(task, writer, max_pixels, stale.get(task.scan_id, ())),
            largest_first,
        )
        return IngestOutcome.of(_logged(results, len(tasks)))


def _logged(results: Iterable[ScanResult], total: int) -> Iterator[ScanResult]:
    """The results as they come, with a line every few seconds of how many have."""
    last_line = time.monotonic()
    for count, result in enumerate(results, 1):
        if count < total and time.monotonic() - last_line >= _LOG_SECONDS:
            log.info("%d of %d scans read", count, total)
            last_line = time.monotonic()
        yield result
