"""What may befall a step in a night: its driver is killed, or a node dies with all that runs on it."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil

#: Seconds between two looks at the processes, and those after which nothing is struck any more.
_LOOK, _LIMIT = 0.2, 900.0


def kill_driver(work: Path, step: psutil.Process) -> None:
    """Kill a step's processes on the primary node, once a Python worker of its executors is at work."""
    if _wait(step, lambda: any(_workers(manager) for manager in _managers(work))):
        with suppress(ProcessLookupError):
            os.killpg(step.pid, signal.SIGKILL)


def kill_node(work: Path, step: psutil.Process) -> None:
    """Kill a node manager and all its containers, once a Python worker is at work in one of them.

    The node is one without the application master, whose end would be the step's.
    """

    def target() -> psutil.Process | None:
        hosts = [manager for manager in _managers(work) if not _is_home_of_master(manager)]
        return next((manager for manager in hosts if _workers(manager)), None)

    if _wait(step, lambda: target() is not None) and (manager := target()):
        for process in [manager, *manager.children(recursive=True)]:
            with suppress(psutil.NoSuchProcess):
                process.kill()


def _wait(step: psutil.Process, condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + _LIMIT
    while step.is_running() and time.monotonic() < deadline:
        with suppress(psutil.NoSuchProcess):
            if condition():
                return True
        time.sleep(_LOOK)
    return False


def _managers(work: Path) -> list[psutil.Process]:
    mark = f"yarn.nodemanager.local-dirs={work}"
    return [process for process in psutil.process_iter() if mark in _command(process)]


def _workers(manager: psutil.Process) -> list[psutil.Process]:
    """Python workers that were forked for a task; their daemon alone is none."""
    children = manager.children(recursive=True)
    daemons = {child.pid for child in children if "pyspark.daemon" in _command(child)}
    return [child for child in children if child.pid in daemons and child.ppid() in daemons]


def _is_home_of_master(manager: psutil.Process) -> bool:
    return any("ExecutorLauncher" in _command(child) for child in manager.children(recursive=True))


def _command(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""
