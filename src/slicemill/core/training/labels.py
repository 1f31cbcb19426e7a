"""Labels that mean nothing: the control that every classifier must fail."""

from __future__ import annotations

import hashlib


def random_label(seed: int, scan_id: str, slice_index: int) -> bool:
    """A random label, the same for a slice in every epoch, on every rank and machine."""
    digest = hashlib.blake2b(f"{seed}|{scan_id}|{slice_index}".encode(), digest_size=1).digest()
    return bool(digest[0] & 1)
