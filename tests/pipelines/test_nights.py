"""Nights of faults in CI. `python tests/nights.py` lets fifty pass, and stops and kills some of the runs."""

from __future__ import annotations

from pathlib import Path

import pytest
from nights import night_here, nights, spoiled


@pytest.mark.slow
def test_after_nights_of_faults_the_lake_is_that_of_calm_nights(s3: str, bucket: str, tmp_path: Path) -> None:
    with spoiled(s3, seed=7) as proxy:
        diary = nights(bucket, proxy, tmp_path, 8, 7, night_here)
    assert sum(diary.statuses.values()) == 8
