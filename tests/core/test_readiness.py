from __future__ import annotations

import re

from slicemill.core.scans.discovery import FoundFile, ScanTask, discover
from slicemill.core.scans.readiness import Readiness

NOW = 1000.0


def scans(files: dict[str, float]) -> tuple[ScanTask, ...]:
    return discover([FoundFile(uri, 1, "") for uri in files], re.compile("")).scans


def waiting(files: dict[str, float], **rules: object) -> set[str]:
    return set(Readiness(**rules).waiting(scans(files), files.items(), NOW))  # type: ignore[arg-type]


FILES = {
    "s3://b/raw/old/old_1.tif": 100.0,
    "s3://b/raw/old/old_1_mask.tif": 200.0,
    "s3://b/raw/new/new_1.tif": 100.0,
    "s3://b/raw/new/new_2.tif": 990.0,
}


def test_without_a_rule_every_folder_is_complete() -> None:
    assert waiting(FILES) == set()


def test_the_newest_object_decides() -> None:
    assert waiting(FILES, quiet=60.0) == {"new"}
    assert waiting(FILES, quiet=10.0) == set()
    assert waiting(FILES, quiet=801.0) == {"new", "old"}
    assert waiting({**FILES, "s3://b/raw/old/notes.txt": 999.0}, quiet=60.0) == {"new", "old"}


def test_a_marker_completes_its_own_folder() -> None:
    marked = {**FILES, "s3://b/raw/new/_READY": 990.0}
    assert waiting(marked, marker="_READY") == {"old"}
    assert waiting(marked, marker="_DONE") == {"old", "new"}
    assert waiting(marked, marker="_READY", quiet=60.0) == {"old", "new"}


def test_a_scan_in_two_folders_waits_for_both() -> None:
    both = {**FILES, "s3://b/raw/deep/old/old_2.tif": 100.0, "s3://b/raw/old/_READY": 200.0}
    assert "old" in waiting(both, marker="_READY")
    assert "old" not in waiting({**both, "s3://b/raw/deep/old/_READY": 200.0}, marker="_READY")


def test_a_folder_that_waits_for_longer_than_a_day_is_named() -> None:
    day = 86_400.0
    files = {
        "s3://b/raw/dead/dead_1.tif": NOW - 2 * day,
        "s3://b/raw/fresh/fresh_1.tif": NOW - day / 2,
        "s3://b/raw/growing/growing_1.tif": NOW - 2 * day,
        "s3://b/raw/growing/growing_2.tif": NOW - 1,
        "s3://b/raw/future/future_1.tif": NOW + 3600,
    }
    rules = Readiness(marker="_READY")
    assert rules.waiting(scans(files), files.items(), NOW) == {
        "dead": True,
        "fresh": False,
        "growing": True,
        "future": True,
    }
    quiet = Readiness(quiet=60.0)
    assert quiet.waiting(scans(files), files.items(), NOW) == {"growing": True, "future": True}
