"""Holders of locks for tests: one that lasts as long as its file, and some in processes of their own.

A process of its own imports this module; it can't import a test's, which belongs to no package.
"""

from __future__ import annotations

import time
from typing import Any

from slicemill.errors import LockLostError
from slicemill.io import storage
from slicemill.io.storage import fence, heartbeat, lock
from slicemill.io.storage.fence import LOCK_NAME, Fence, Holder
from slicemill.io.storage.lock import sole_writer
from slicemill.io.storage.uri import canonical, join

PACE = {"STALE_SECONDS": 2.0, "BEAT_SECONDS": 0.1, "RETRY_SECONDS": 0.05, "GIVE_UP_SECONDS": 1.0}


def hurry(setattr: Any = setattr) -> None:
    """Heartbeats a hundred times as fast; stale after 2 s, since the storage's clock counts whole seconds."""
    for module in (fence, heartbeat, lock):
        for name in PACE.keys() & vars(module).keys():
            setattr(module, name, PACE[name])


def held_fence(home: str) -> Fence:
    """The fence of a folder whose lock this process has just taken."""
    uri = canonical(home)
    storage.write_bytes(join(uri, LOCK_NAME), Holder.of_this_process("test", "test-token").to_json())
    return Fence(uri, "test-token")


def hold_until_killed(home: Any, ready: Any) -> None:
    with sole_writer(home, "holder"):
        ready.set()
        time.sleep(60)


def write_until_refused(home: Any, uri: Any, ready: Any, outcome: Any) -> None:
    hurry()
    try:
        with sole_writer(home, "sleeper") as held:
            while True:
                held.write(uri, b"sleeper")
                ready.set()
    except LockLostError as error:
        outcome.put(str(error))
