"""What a result was made on: the machine, the versions, the command. Result files carry it."""

from __future__ import annotations

import os
import platform
import shlex
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

PACKAGES = (
    "slicemill",
    "pyspark",
    "pyarrow",
    "pillow",
    "numpy",
    "torch",
    "torchvision",
    "monai",
    "petastorm",
)


def describe() -> dict[str, Any]:
    """Processor, cores, memory, Python and package versions of this machine."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    versions = {name: _version(name) for name in PACKAGES}
    return {
        "machine": {
            "processor": processor(),
            "cores": len(os.sched_getaffinity(0)),
            "memory_gib": round(memory, 1),
        },
        "versions": {
            "python": platform.python_version(),
            **{name: number for name, number in versions.items() if number},
        },
    }


def processor() -> str:
    """Name of this machine's processor."""
    text = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    names = [line.partition(":")[2].strip() for line in text.splitlines() if line.startswith("model name")]
    return names[0] if names else platform.processor()


def command() -> str:
    """The command line of this process, as a shell takes it; of the program its name alone."""
    return shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
