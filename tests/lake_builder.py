"""A lake of a few tiny synthetic scans, written through slicemill's own tables without Spark."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from slicemill.core.splits import split_hash
from slicemill.io import parquet, storage
from slicemill.io.lake.splits import Split, write_split
from slicemill.io.places import Lake
from slicemill.io.storage.uri import join
from slicemill.schemas import SCANS, SCHEMA_VERSION, SLICES, TOTALS
from slicemill.types import ScanImages, ScanMasks


@dataclass(frozen=True)
class TinyScan:
    """A scan of the lake; slices in `unlabelled` have no mask."""

    scan_id: str
    images: ScanImages
    masks: ScanMasks
    unlabelled: frozenset[int] = frozenset()

    @property
    def patient_id(self) -> str:
        """The scan's patient: every tiny scan has its own."""
        return f"P{self.scan_id}"

    @property
    def labelled(self) -> int:
        """Slices with a mask."""
        return len(self.images) - len(self.unlabelled)


def tiny_scan(
    scan_id: str, slices: int, size: tuple[int, int] = (40, 36), unlabelled: Sequence[int] = ()
) -> TinyScan:
    """Noise with a bright disk on every second slice, which is the tumour."""
    draw = np.random.default_rng(int(hashlib.sha256(scan_id.encode()).hexdigest()[:8], 16))
    images = draw.integers(0, 120, (slices, *size, 3), dtype=np.uint8)
    rows, columns = np.ogrid[: size[0], : size[1]]
    masks = np.zeros((slices, *size), dtype=np.uint8)
    for index in range(0, slices, 2):
        row, column = draw.integers(10, min(size) - 10, 2)
        masks[index] = (rows - row) ** 2 + (columns - column) ** 2 < 49
    images[masks == 1] += 130
    return TinyScan(scan_id, images, masks, frozenset(unlabelled))


def write_lake(home: str, scans: Sequence[TinyScan], splits: Mapping[str, Mapping[str, str]]) -> None:
    """Write a lake at a canonical URI; `splits` give the part of each patient by the split's name."""
    for scan in scans:
        parquet.write_rows(
            join(home, _data_uri(scan)), SLICES, [_slice_row(scan, at) for at in range(len(scan.images))]
        )
    parquet.write_small(Lake(home).scans, SCANS, [_scan_row(scan) for scan in scans])
    parquet.write_small(Lake(home).totals, TOTALS, [_totals_row(scan) for scan in scans])
    storage.write_json(Lake(home).card, {"schema_version": SCHEMA_VERSION})
    for name, assigned in splits.items():
        card = {"method": "by hand", "hash": split_hash(assigned)}
        folds = {part for part in assigned.values() if part.startswith("fold-")}
        write_split(home, Split(name, assigned, card | ({"folds": len(folds)} if folds else {})))


def _data_uri(scan: TinyScan) -> str:
    return f"slices/patient_id={scan.patient_id}/{scan.scan_id}.parquet"


def _slice_row(scan: TinyScan, at: int) -> dict[str, object]:
    height, width, channels = scan.images[at].shape
    labelled = at not in scan.unlabelled
    return {
        "scan_id": scan.scan_id,
        "slice_index": at + 1,
        "height": height,
        "width": width,
        "channels": channels,
        "image": scan.images[at].tobytes(),
        "mask": scan.masks[at].tobytes() if labelled else None,
        "mask_status": "present" if labelled else "absent",
        "tumour_pixels": int(scan.masks[at].sum()) if labelled else None,
        "source_uri": f"file:///raw/{scan.scan_id}_{at + 1}.tif",
        "source_fingerprint": "",
    }


def _scan_row(scan: TinyScan) -> dict[str, object]:
    row: dict[str, object] = {
        column.name: [] if column.repeated else "" if column.kind == "string" else 0
        for column in SCANS.columns
        if not column.nullable
    }
    return row | {
        "scan_id": scan.scan_id,
        "patient_id": scan.patient_id,
        "slices": len(scan.images),
        "labelled_slices": scan.labelled,
        "tumour_slices": sum(at not in scan.unlabelled for at in range(0, len(scan.images), 2)),
        "data_uri": _data_uri(scan),
        "content_hash": hashlib.sha256(scan.images.tobytes()).hexdigest(),
        "schema_version": SCHEMA_VERSION,
    }


def _totals_row(scan: TinyScan) -> dict[str, object]:
    counts = [np.bincount(scan.images[..., channel].ravel(), minlength=256) for channel in range(3)]
    return {
        "scan_id": scan.scan_id,
        "patient_id": scan.patient_id,
        "histogram": np.concatenate(counts).tolist(),
        "heat_map": [],
        "image_hashes": [],
    }
