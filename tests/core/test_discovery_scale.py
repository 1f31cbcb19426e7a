"""A million objects are planned in a driver of ordinary size."""

from __future__ import annotations

import subprocess
import sys

import pytest

PLAN = """
import re
from pathlib import Path
from slicemill.config import PUBLIC_SCAN_PATTERN
from slicemill.core.scans.discovery import FoundFile, discover, pack

def listing(scans, slices):
    for scan in range(scans):
        name = f"TCGA_{scan % 50:02}_{scan:06}_20200101"
        for number in range(1, slices + 1):
            for suffix in ("", "_mask"):
                uri = f"s3://a-hospitals-bucket/raw/{name}/{name}_{number}{suffix}.tif"
                yield FoundFile(uri, 196_608 + number, f"{scan:016x}{number:016x}")

found = discover(listing(12_500, 40), re.compile(PUBLIC_SCAN_PATTERN))
shares = pack(found.scans, 1000)
# Not ru_maxrss: a child begins with that of the process that started it.
(peak,) = re.findall(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())
slices = sum(len(scan.slices) for scan in found.scans)
print(len(found.scans), slices, len(shares), f"{int(peak) / 2**20:.2f}")
"""


@pytest.mark.slow
def test_a_million_objects_fit_in_two_gib() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PLAN], capture_output=True, text=True, check=True, timeout=300
    )
    scans, slices, shares, peak = done.stdout.split()
    assert (scans, slices, shares) == ("12500", "500000", "1000")
    assert float(peak) < 2.0
