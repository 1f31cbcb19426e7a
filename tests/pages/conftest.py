"""One lake, one run and one score folder for all tests of reports, to be read only."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
from raw_builder import write_raw
from report_builder import add_split, quarantine_row, write_lake, write_run, write_scores

from slicemill.io.scores.extras import Extras


@dataclass(frozen=True)
class Homes:
    """Canonical URIs; `raw` is a folder."""

    raw: Path
    lake: str
    run: str
    scores: str


@pytest.fixture(scope="session")
def homes(tmp_path_factory: pytest.TempPathFactory) -> Homes:
    base = tmp_path_factory.mktemp("report")
    home = Homes(
        write_raw(base / "raw"), f"file://{base}/lake", f"file://{base}/run", f"file://{base}/scores"
    )
    quarantine = [quarantine_row("truncated", f"file:///raw/S/S_{number}.tif") for number in range(5)]
    clinical = {"grade": [2, 3, 3], "age": [40.5, None, 60.0]}
    write_lake(home.lake, home.raw, quarantine, clinical)
    assigned = {"TEST_AA_0001": "train", "TEST_AA_0002": "test", "TEST_BB_0003": "test"}
    write_run(home.run, split="demo", hash_=add_split(home.lake, "demo", assigned))
    write_scores(home.scores, home.lake, extras=Extras(nifti=True, probabilities=True))
    return home
