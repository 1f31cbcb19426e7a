"""Raw scan folders for tests: small, random and reproducible, in the public layout."""

from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np
from tiff_builder import Form, build


def image(scan_id: str, number: int, side: int = 32, dtype: type = np.uint8) -> np.ndarray:
    """The image of a slice, axes (H, W, 3)."""
    random = np.random.default_rng(zlib.crc32(f"{scan_id}/{number}".encode()))
    return random.integers(0, np.iinfo(dtype).max, (side, side, 3), dtype=dtype, endpoint=True)


def mask(number: int, side: int = 32) -> np.ndarray:
    """The 0/1 mask of a slice: empty for odd numbers, a square of number x number for even ones."""
    plane = np.zeros((side, side), np.uint8)
    if number % 2 == 0:
        plane[:number, :number] = 1
    return plane


def write_scan(
    raw: Path, scan_id: str, slices: int = 4, side: int = 32, masks: bool = True, form: Form | None = None
) -> Path:
    """Write slices 1 to `slices` of a scan and return its folder."""
    folder = raw / scan_id
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(1, slices + 1):
        (folder / f"{scan_id}_{number}.tif").write_bytes(build(image(scan_id, number, side), form))
        if masks:
            plane = mask(number, side)[..., None] * np.uint8(255)
            (folder / f"{scan_id}_{number}_mask.tif").write_bytes(build(plane))
    return folder


SCAN_IDS = ("TEST_AA_0001_20200101", "TEST_AA_0002_20200102", "TEST_BB_0003_20200103")


def write_raw(raw: Path) -> Path:
    """Write three good scans of four slices each."""
    for scan_id in SCAN_IDS:
        write_scan(raw, scan_id)
    return raw
