"""One writer at a time on a lake or a score folder.

On disk the kernel holds the lock and lets go when its process dies. In S3 a lock object is written on
conditions and refreshed while its holder lives; one that was not refreshed for a minute, or whose process on
this machine is gone, is taken over.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from slicemill.errors import BusyError
from slicemill.io import storage
from slicemill.io.storage.uri import display, is_s3, join, local_path
from slicemill.types import Uri

log = logging.getLogger(__name__)

LOCK_NAME = "_lock"
BEAT_SECONDS = 10.0
STALE_SECONDS = 60.0


@contextmanager
def sole_writer(home: Uri, job_id: str) -> Iterator[None]:
    """Hold the folder's lock; raise BusyError if another run holds it."""
    uri = join(home, LOCK_NAME)
    with _s3_lock(uri, home, job_id) if is_s3(uri) else _disk_lock(uri, home):
        yield


def _busy(home: Uri, holder: str) -> BusyError:
    return BusyError(
        f"another run is writing to {display(home)}",
        expected="one run at a time",
        found=holder,
        advice="Wait for it to end; a killed run lets go within a minute.",
    )


@contextmanager
def _disk_lock(uri: Uri, home: Uri) -> Iterator[None]:
    path = local_path(uri)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+b") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise _busy(home, "its lock is held") from error
        yield


@contextmanager
def _s3_lock(uri: Uri, home: Uri, job_id: str) -> Iterator[None]:
    tag = _acquire(uri, home, job_id)
    stop = threading.Event()
    keeper = threading.Thread(target=_keep, args=(uri, job_id, tag, stop), daemon=True)
    keeper.start()
    try:
        yield
    finally:
        stop.set()
        keeper.join()
        storage.remove(uri)


def _content(job_id: str) -> bytes:
    return json.dumps(
        {"job_id": job_id, "host": socket.gethostname(), "pid": os.getpid(), "time": time.time()}
    ).encode()


def _acquire(uri: Uri, home: Uri, job_id: str) -> str:
    from slicemill.io.storage import s3_client  # boto3 is an extra: locks on disk do without

    there = s3_client.read_with_tag(uri)
    if there is not None and not _stale(json.loads(there[0])):
        holder = json.loads(there[0])
        raise _busy(home, f"{holder['job_id']} on {holder['host']}, process {holder['pid']}")
    tag = s3_client.write_if(uri, _content(job_id), there[1] if there else None)
    if tag is None:
        raise _busy(home, "a run that started at the same moment")
    return tag


def _stale(holder: dict[str, Any]) -> bool:
    if time.time() - float(holder["time"]) > STALE_SECONDS:
        return True
    return holder["host"] == socket.gethostname() and not os.path.exists(f"/proc/{holder['pid']}")


def _keep(uri: Uri, job_id: str, tag: str, stop: threading.Event) -> None:
    from slicemill.io.storage import s3_client

    held: str | None = tag
    while held and not stop.wait(BEAT_SECONDS):
        held = s3_client.write_if(uri, _content(job_id), held)
    if not held:
        log.error("the lock %s was taken over by another run; this one should not go on", uri)
