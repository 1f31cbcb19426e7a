"""The scans that a scoring run answers for: raw folders that are ready, or the patients of a part."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass

from slicemill.config import ScoreConfig
from slicemill.core.scans.readiness import Readiness
from slicemill.errors import ConfigError
from slicemill.io import storage
from slicemill.io.lake.reader import read_scans
from slicemill.io.raw.listing import find_scans, list_raw, scan_pattern
from slicemill.io.scores.source import LakeSource, RawSource, ScoreTask
from slicemill.io.scores.spacing import scan_spacing
from slicemill.io.storage.uri import canonical, display
from slicemill.types import Spacing

log = logging.getLogger(__name__)

#: Key of a manifest entry from the fingerprint of a scan's input, and its spacing.
KeyOf = Callable[[str, Spacing | None], str]


@dataclass(frozen=True)
class Scope:
    """Scans of a run, how many files they were listed with, and how many scans are still being written."""

    tasks: tuple[ScoreTask, ...]
    files: int
    waiting: int = 0


def raw_scope(config: ScoreConfig, key_of: KeyOf) -> Scope:
    """Scans below `--raw` that are ready; results that lie below it are left out.

    Raises InputError if there is nothing to score, ConfigError if `--raw` lies inside `--out`.
    """
    home = canonical(config.out)
    for uri in map(canonical, config.raw):
        if f"{uri}/".startswith(f"{home}/"):
            raise ConfigError(
                "--raw lies inside --out",
                expected="scores beside the raw folders, or below them",
                found=display(uri),
                advice="Give another --out.",
            )
    files = list_raw(config.raw)
    discovery = find_scans(config.raw, files, scan_pattern(config.scan_pattern), own=[home])
    for problem in discovery.problems:
        log.warning("%s: %s", problem.reason, display(problem.uri))
    readiness = Readiness(config.ready_marker, 60 * config.quiet_minutes)
    now = min(storage.now(canonical(uri)) for uri in config.raw) if config.quiet_minutes else time.time()
    waiting = readiness.waiting(discovery.scans, ((file.uri, file.modified) for file in files), now)
    for scan_id in sorted(scan_id for scan_id, too_long in waiting.items() if too_long):
        log.warning("%s has waited for more than a day, or holds a file from the future", scan_id)
    folders = [folder for folder in discovery.scans if folder.scan_id not in waiting]
    spacing = scan_spacing(config.sides(), {folder.patient_id for folder in folders}, config.clinical)
    tasks = tuple(
        ScoreTask(
            folder.scan_id,
            folder.fingerprint,
            key_of(folder.fingerprint, spacing.get(folder.patient_id)),
            folder.size,
            len(folder.slices),
            RawSource(folder),
            spacing.get(folder.patient_id),
        )
        for folder in folders
    )
    return Scope(tasks, sum(folder.files for folder in folders), len(waiting))


def lake_scope(config: ScoreConfig, patients: Collection[str], key_of: KeyOf) -> Scope:
    """Scans of these patients in the lake."""
    lake = canonical(config.lake or "")
    spacing = scan_spacing(config.sides(), patients, config.clinical, lake)
    rows = [row for row in read_scans(lake) if row.patient_id in patients]
    tasks = tuple(
        ScoreTask(
            row.scan_id,
            row.content_hash,
            key_of(row.content_hash, spacing.get(row.patient_id)),
            row.slices,
            row.slices,
            LakeSource(lake, row),
            spacing.get(row.patient_id),
        )
        for row in rows
    )
    return Scope(tasks, sum(row.slices for row in rows))
