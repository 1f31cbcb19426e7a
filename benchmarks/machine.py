"""What a benchmark ran on: the machine and the versions, for its last line."""

from __future__ import annotations

import os
import platform
from importlib.metadata import version
from pathlib import Path

PACKAGES = ("slicemill", "pyspark", "pyarrow", "pillow", "numpy", "torch", "petastorm")


def describe() -> dict[str, object]:
    """Processor, cores, memory, Python and package versions."""
    text = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    names = [line.partition(":")[2].strip() for line in text.splitlines() if line.startswith("model name")]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "machine": {
            "processor": names[0] if names else platform.processor(),
            "cores": len(os.sched_getaffinity(0)),
            "memory_gib": round(memory, 1),
        },
        "versions": {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}},
    }
