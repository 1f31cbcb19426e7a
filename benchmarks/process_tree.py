"""What a process costs with all that it starts: it does not wait for Spark's JVM and workers."""

from __future__ import annotations

import subprocess
import time

import psutil


def watched(process: subprocess.Popen[bytes]) -> tuple[float, float]:
    """CPU seconds and the most MiB of a process and all below it."""
    seconds: dict[int, float] = {}
    peak = 0.0
    while process.poll() is None:
        memory = 0.0
        for member in members(process.pid):
            try:
                times, memory_info = member.cpu_times(), member.memory_full_info()
            except (psutil.NoSuchProcess, psutil.ZombieProcess, psutil.AccessDenied):
                continue
            seconds[member.pid] = times.user + times.system
            memory += memory_info.pss / 2**20
        peak = max(peak, memory)
        time.sleep(0.1)
    return sum(seconds.values()), peak


def members(pid: int) -> list[psutil.Process]:
    """A process and all below it."""
    try:
        root = psutil.Process(pid)
        return [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []
