"""One kill in CI. `python tests/kills.py` kills processes of every kind in four verbs, at random points."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from kills import DRIVER, Run, Verb
from nights import night_here
from raw_builder import write_scan
from stored_objects import objects

from slicemill.io.storage.uri import canonical

pytestmark = [pytest.mark.slow, pytest.mark.spark]

SCANS = 60


def test_after_a_killed_driver_the_next_ingest_leaves_what_an_undisturbed_one_does(tmp_path: Path) -> None:
    raw, lake, calm = (tmp_path / name for name in ("raw", "lake", "calm"))
    for number in range(SCANS):
        write_scan(raw, f"TEST_AA_{number:04}_20200101", slices=3, side=16)
    assert night_here(canonical(str(raw)), canonical(str(calm)))["status"] == "done"
    ingest = Verb("ingest", ("--raw", str(raw), "--lake", str(lake)))

    run = Run(ingest, tmp_path)
    while not (lake / "_commits").exists() or not any((lake / "_commits").iterdir()):
        assert not run.ended(), run.last_words()
        time.sleep(0.02)
    (driver,) = run.alive()[DRIVER]
    driver.kill()
    assert run.summary()["status"] == "killed"
    # At once: workers of the first run may still be at work.
    again = Run(ingest, tmp_path)
    summary = again.summary()

    assert (summary["status"], summary["scans"]) == ("done", SCANS), again.last_words()
    assert objects(lake) == objects(calm)
