"""A lock that is held as long as its file lies there, for writers that are tested without their run."""

from __future__ import annotations

from slicemill.io import storage
from slicemill.io.storage.fence import LOCK_NAME, Fence, Holder
from slicemill.io.storage.uri import canonical, join


def held_fence(home: str) -> Fence:
    """The fence of a folder whose lock this process has just taken."""
    uri = canonical(home)
    storage.write_bytes(join(uri, LOCK_NAME), Holder.of_this_process("test", "test-token").to_json())
    return Fence(uri, "test-token")
