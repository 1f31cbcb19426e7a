"""Write synthetic head scans in the public data set's layout. No patient is in them."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np

from slicemill.config import PhantomConfig
from slicemill.core.scans.phantom import make_scan, patient_id
from slicemill.io import storage
from slicemill.io.raw.tiff_write import encode_image, encode_mask
from slicemill.io.storage.uri import canonical, display, join
from slicemill.types import Uri

log = logging.getLogger(__name__)

_README = """Synthetic data, written by `slicemill phantom`.

No patient is in it: every head, every tumour, every name and every clinical value was drawn by a random
number generator. It has the layout of the public LGG segmentation data set, to try the software with.
Nothing measured on it says anything about patients.
"""


def run(config: PhantomConfig) -> dict[str, Any]:
    """Write the scans, `data.csv` and `README.txt`, and return the summary."""
    out = canonical(config.out)
    slices = tumour_slices = 0
    for number in range(1, config.scans + 1):
        scan = make_scan(number, config.seed, config.size)
        files: list[tuple[Uri, bytes]] = []
        for index, (image, mask) in enumerate(zip(scan.images, scan.masks, strict=True), start=1):
            home, stem = join(out, scan.scan_id), f"{scan.scan_id}_{index}"
            files.append((join(home, f"{stem}.tif"), encode_image(image)))
            files.append((join(home, f"{stem}_mask.tif"), encode_mask(mask)))
        storage.each(lambda file: storage.write_bytes(*file), files, out)
        slices += len(scan.images)
        tumour_slices += int(scan.masks.any(axis=(1, 2)).sum())
        log.info("synthetic scan %d of %d: %s", number, config.scans, scan.scan_id)
    storage.write_bytes(join(out, "data.csv"), _clinical(config).encode("ascii"))
    storage.write_bytes(join(out, "README.txt"), _README.encode("ascii"))
    return {
        "job": "phantom",
        "status": "done",
        "scans": config.scans,
        "slices": slices,
        "tumour_slices": tumour_slices,
        "out": display(out),
    }


def _clinical(config: PhantomConfig) -> str:
    """The synthetic clinical table in the public one's form: semicolons, CRLF, blanks for the unknown."""
    lines = ["Patient;gender;age;synthetic"]
    for number in range(1, config.scans + 1):
        rng = np.random.default_rng((config.seed, number, 2))
        gender = "" if rng.random() < 0.1 else str(rng.integers(1, 3))
        age = "" if rng.random() < 0.2 else str(rng.integers(20, 76))
        lines.append(f"{patient_id(number)};{gender};{age};1")
    return "".join(f"{line}\r\n" for line in lines)
