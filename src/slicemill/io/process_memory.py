"""What a process sets for itself before it handles scans."""

from __future__ import annotations

import ctypes
from functools import cache

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_KEPT_BYTES = 1 << 30


@cache
def reuse_freed_memory() -> None:
    """Let glibc keep freed memory for the next slice instead of giving it back to the kernel.

    Slices come and go by the megabyte; mapping and clearing their pages anew takes a fifth of an ingest's
    time. Does nothing where the C library is another.
    """
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return
    mallopt(_M_MMAP_THRESHOLD, _KEPT_BYTES)
    mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES)
