"""One writer at a time on a lake, a run or a score folder.

On disk the kernel holds the lock and lets go when its process dies. In S3 a lock object is written on
conditions and refreshed while its holder lives; one that was not refreshed for a minute, by the storage's own
clock, is taken over. Either way the lock holds a token of its holder. What is written through the holder's
`Fence` is written only while the lock still holds that token, so a run that slept can't write over its
successor.
"""

from __future__ import annotations

import fcntl
import logging
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

from slicemill.errors import BusyError, LockLostError
from slicemill.io.storage.faults import named
from slicemill.io.storage.fence import LOCK_NAME, STALE_SECONDS, Fence, Holder, read_holder
from slicemill.io.storage.files import s3
from slicemill.io.storage.uri import display, is_s3, join, local_path
from slicemill.types import Uri

__all__ = ["LOCK_NAME", "STALE_SECONDS", "Fence", "sole_writer"]

log = logging.getLogger(__name__)


@contextmanager
def sole_writer(home: Uri, job_id: str) -> Iterator[Fence]:
    """Hold the folder's lock and give its fence.

    Raises BusyError if another run holds it, or if something else lies in the lock's place, StorageError if
    the folder can't be written, and LockLostError if the lock is lost on the way: at once in the main thread,
    at the next write or at the end in another.
    """
    holder = Holder.of_this_process(job_id, f"{job_id}-{uuid.uuid4().hex[:12]}")
    with _s3_lock(home, holder) if is_s3(home) else _disk_lock(home, holder):
        yield Fence(home, holder.token)


def _busy(home: Uri, holder: str) -> BusyError:
    return BusyError(
        f"another run is writing to {display(home)}",
        expected="one run at a time",
        found=holder,
        advice="Wait for it to end; a killed run lets go within a minute.",
    )


@contextmanager
def _disk_lock(home: Uri, holder: Holder) -> Iterator[None]:
    uri = join(home, LOCK_NAME)
    with named(uri, "written"):
        local_path(home).mkdir(parents=True, exist_ok=True)
        file = local_path(uri).open("a+b")
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise _busy(home, "its lock is held") from error
        _refill(file, holder.to_json())
        try:
            yield
        finally:
            _refill(file, b"")


def _refill(file: BinaryIO, content: bytes) -> None:
    file.truncate(0)
    file.write(content)
    file.flush()


@contextmanager
def _s3_lock(home: Uri, holder: Holder) -> Iterator[None]:
    s3()  # refuses in one line where boto3 is not installed
    from slicemill.io.storage.heartbeat import Heartbeat

    heartbeat = Heartbeat(join(home, LOCK_NAME), holder, _acquire(home, holder))
    heartbeat.start()
    try:
        try:
            yield
        finally:
            heartbeat.stop()
    except BaseException as error:
        # What an aborted run raises is many things: an interrupt, a cancelled Spark job.
        if heartbeat.lost:
            raise _lost(home, heartbeat.lost) from error
        raise
    if heartbeat.lost:
        raise _lost(home, heartbeat.lost)


def _lost(home: Uri, reason: str) -> LockLostError:
    return LockLostError(
        f"this run lost the lock of {display(home)} and ended at once",
        expected="a lock that is refreshed until the end",
        found=reason,
        advice="Run it again: what was finished is kept.",
    )


def _acquire(home: Uri, holder: Holder) -> str:
    """Write the lock object; return its ETag."""
    uri = join(home, LOCK_NAME)
    with named(uri, "written"):
        present = s3().read_tagged(uri)
        if present is not None:
            earlier = read_holder(uri, present.data)
            if (present.age is None or present.age <= STALE_SECONDS) and not earlier.is_gone():
                raise _busy(home, str(earlier))
            log.warning(
                "%s: taking over the lock of %s, which ended without letting go", display(home), earlier
            )
        tag: str | None = s3().write_if(uri, holder.to_json(), present.tag if present else None)
    if tag is None:
        raise _busy(home, "a run that started at the same moment")
    return tag
