"""The fence: what is written only while its run holds the lock, by the driver and by its workers alike.

In S3 a write names the state of the object that it replaces, and that state is looked up before the lock is.
So a write that takes effect replaces nothing that a later holder of the lock has written.
"""

from __future__ import annotations

import dataclasses
import json
import os
import socket
from collections.abc import Callable
from dataclasses import dataclass

from slicemill.errors import BusyError, LockLostError, StorageError
from slicemill.io.storage import files
from slicemill.io.storage.faults import named
from slicemill.io.storage.uri import display, is_s3, join, local_path, require_inside
from slicemill.types import Uri

LOCK_NAME = "_lock"
#: A lock in S3 that was not refreshed for so many seconds is free.
STALE_SECONDS = 60.0
#: Times that a write is tried that somebody else's came before.
_ATTEMPTS = 5


@dataclass(frozen=True)
class Holder:
    """Who holds a lock, as the lock itself says.

    `boot` and `namespace` tell machines and containers apart, which may have the same host name; None where
    the system does not tell, and in the locks of earlier releases.
    """

    job_id: str
    token: str
    host: str
    pid: int
    boot: str | None = None
    namespace: str | None = None
    started: str | None = None
    beat: int = 0

    @classmethod
    def of_this_process(cls, job_id: str, token: str) -> Holder:
        """This process as a holder."""
        boot, namespace = _machine()
        return cls(job_id, token, socket.gethostname(), os.getpid(), boot, namespace, _start(os.getpid()))

    def to_json(self) -> bytes:
        """The content of a lock."""
        return json.dumps(dataclasses.asdict(self)).encode()

    def is_gone(self) -> bool:
        """Whether the holder's process has ended, as far as this process can know for certain."""
        if self.boot is None or self.namespace is None or (self.boot, self.namespace) != _machine():
            return False
        return _start(self.pid) != self.started

    def __str__(self) -> str:
        return f"{self.job_id} on {self.host}, process {self.pid}"


def _machine() -> tuple[str | None, str | None]:
    """This boot of this machine, and this container's process namespace."""
    try:
        with open("/proc/sys/kernel/random/boot_id") as file:
            return file.read().strip(), os.readlink("/proc/self/ns/pid")
    except OSError:
        return None, None


def _start(pid: int) -> str | None:
    """When a process started, in ticks since boot, which tells it from later ones; None if it ended."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return None


def read_holder(uri: Uri, data: bytes) -> Holder:
    """The holder in a lock's content; raise BusyError, which names the way out, for anything else."""
    names = {field.name for field in dataclasses.fields(Holder)}
    try:
        value = json.loads(data)
        return Holder(**{"token": "", **{name: value[name] for name in names & value.keys()}})
    except (ValueError, TypeError, AttributeError) as error:
        remove = f"aws s3 rm '{uri}'" if is_s3(uri) else f"rm '{display(uri)}'"
        raise BusyError(
            f"{display(uri)} is not a lock of slicemill",
            expected="JSON that names a run",
            found=f"{len(data)} bytes of something else" if data else "an empty file",
            advice=f"If no run is writing there, remove it: {remove}",
        ) from error


@dataclass(frozen=True)
class Fence:
    """The right to write into a folder, as workers take it along: the folder and the lock's token."""

    home: Uri
    token: str

    def check(self) -> None:
        """Raise LockLostError unless the lock still holds this token and is refreshed."""
        uri = join(self.home, LOCK_NAME)
        holder, age = self._present(uri)
        if holder is None or holder.token != self.token:
            raise self._lost(f"held by {holder}" if holder else "no lock")
        if age is not None and age > STALE_SECONDS:
            raise self._lost(f"not refreshed for {age:.0f} s")

    def _present(self, uri: Uri) -> tuple[Holder | None, float | None]:
        with named(uri, "read"):
            if is_s3(uri):
                present = files.s3().read_tagged(uri)
                return (read_holder(uri, present.data), present.age) if present else (None, None)
            data = local_path(uri).read_bytes() if local_path(uri).exists() else b""
            return (read_holder(uri, data) if data else None), None

    def _lost(self, evidence: str) -> LockLostError:
        return LockLostError(
            f"this run no longer holds the lock of {display(self.home)}; nothing more is written",
            expected=f"the token {self.token}",
            found=evidence,
            advice="Run it again: what was finished is kept.",
        )

    def write(self, uri: Uri, data: bytes) -> None:
        """Write a whole file below the folder while this run holds its lock.

        Raises LockLostError if it no longer does, StorageError if the file can't be written.
        """
        if not is_s3(uri):
            self.check()
            files.write_bytes(uri, data)
            return
        require_inside(uri)
        self._on_condition(uri, "written", lambda tag: files.s3().write_if(uri, data, tag) is not None)

    def remove(self, uri: Uri) -> None:
        """Remove a file below the folder while this run holds its lock; see `write`."""
        if not is_s3(uri):
            self.check()
            files.remove(uri)
            return
        require_inside(uri)
        self._on_condition(uri, "removed", lambda tag: tag is None or files.s3().remove_if(uri, tag))

    def _on_condition(self, uri: Uri, act: str, change: Callable[[str | None], bool]) -> None:
        for _ in range(_ATTEMPTS):
            with named(uri, act):
                tag = files.s3().tag_of(uri)
                self.check()
                if change(tag):
                    return
        raise StorageError(f"{uri} can't be {act}", expected="one writer", found="others without a lock")

    def write_json(self, uri: Uri, value: object, *, indent: int | None = 2) -> None:
        """Write a value as JSON with sorted keys; see `write` and `storage.write_json`."""
        self.write(uri, files.json_bytes(value, indent=indent))
