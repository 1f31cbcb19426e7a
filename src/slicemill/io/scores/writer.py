"""Write one scored scan: masks, slices table, and last the manifest entry that makes it count."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
import numpy.typing as npt

from slicemill.core.scans.integrity import Problem
from slicemill.core.scans.scan import Scan
from slicemill.io import places, storage
from slicemill.io.lake.rows import QuarantineRow, columns
from slicemill.io.parquet import parquet_bytes, read_file, to_arrow
from slicemill.io.places import Lake, Scores
from slicemill.io.raw.tiff_write import encode_mask
from slicemill.io.storage.commits import commit_uri
from slicemill.io.storage.uri import join, relative
from slicemill.schemas import MANIFEST, QUARANTINE, SCORED_SLICES
from slicemill.types import ScanMasks, Uri

MANIFEST_SUFFIX = ".parquet"

#: Decimals of a stored probability: what lies below differs between processors and processes.
_DECIMALS = 5


@dataclass(frozen=True)
class ScoredScan:
    """What scoring found for one scan: 0/1 masks (S, H, W), peak probabilities (S,), Dice a slice, scores.

    A classifier gives no masks.
    """

    scan: Scan
    masks: ScanMasks | None
    peaks: npt.NDArray[np.float32]
    slice_dice: tuple[float | None, ...]
    scores: Mapping[str, Any]


@dataclass(frozen=True)
class ScoreWriter:
    """What a worker needs to write scores: where, for which model and run."""

    scores: Uri
    mask_folder: str
    model_id: str
    job_id: str

    def entry_uri(self, scan_id: str, key: str) -> Uri:
        """Where the manifest entry of a scan lies."""
        return commit_uri(Scores(self.scores).manifest, scan_id, key, MANIFEST_SUFFIX)

    def write(self, scored: ScoredScan, fingerprint: str, key: str, stale: Sequence[Uri]) -> dict[str, Any]:
        """Write all outputs of a scan, then its manifest entry; return the entry.

        `stale` are manifest entries of an earlier input of the same scan and model: they go first, and before
        them what they vouch for and this input no longer gives, such as the mask of a slice that is gone.
        """
        outputs = self._masks(scored)
        if scored.scan.slices:
            outputs.append(self._slices(scored))
        if scored.scan.problems:
            outputs.append(self._quarantine(scored.scan.scan_id, scored.scan.problems))
        self._remove_stale(stale, {uri for uri, _ in outputs})
        hashes = storage.each(lambda output: self._put(*output), outputs, self.scores)
        entry = {
            **scored.scores,
            "patient_id": scored.scan.patient_id,
            "scan_id": scored.scan.scan_id,
            "quarantined": len(scored.scan.problems),
            "model_id": self.model_id,
            "scored_at": datetime.now(UTC),
            "source_fingerprint": fingerprint,
            "outputs": [relative(uri, self.scores) for uri, _ in outputs],
            "output_hashes": hashes,
            "job_id": self.job_id,
        }
        uri = self.entry_uri(scored.scan.scan_id, key)
        storage.write_bytes(uri, parquet_bytes(to_arrow(MANIFEST, [entry])))
        return entry

    def _remove_stale(self, stale: Sequence[Uri], kept: set[Uri]) -> None:
        for entry in stale:
            if not storage.exists(entry):
                continue  # an earlier attempt of this task came so far
            for output in read_file(entry, MANIFEST, ["outputs"]).to_pylist()[0]["outputs"]:
                uri = join(self.scores, output)
                if uri not in kept:
                    storage.remove(uri)
            storage.remove(entry)

    def _put(self, uri: Uri, data: bytes) -> str:
        storage.write_bytes(uri, data)
        return hashlib.sha256(data).hexdigest()

    def _masks(self, scored: ScoredScan) -> list[tuple[Uri, bytes]]:
        if scored.masks is None:
            return []
        scan_id = scored.scan.scan_id
        home = join(self.scores, self.mask_folder, scan_id)
        return [
            (join(home, f"{scan_id}_{one.slice_index}_pred.tif"), encode_mask(mask))
            for one, mask in zip(scored.scan.slices, scored.masks, strict=True)
        ]

    def _slices(self, scored: ScoredScan) -> tuple[Uri, bytes]:
        scan = scored.scan
        masks = scored.masks if scored.masks is not None else [None] * len(scan.slices)
        rows = [
            {
                "scan_id": scan.scan_id,
                "slice_index": one.slice_index,
                "height": one.image.shape[0],
                "width": one.image.shape[1],
                "mask": None if mask is None else np.packbits(mask).tobytes(),
                "tumour_pixels": None if mask is None else int(np.count_nonzero(mask)),
                "true_pixels": None if one.mask is None else int(np.count_nonzero(one.mask)),
                "max_probability": round(float(peak), _DECIMALS),
                "dice": slice_dice,
                "model_id": self.model_id,
            }
            for one, mask, peak, slice_dice in zip(
                scan.slices, masks, scored.peaks, scored.slice_dice, strict=True
            )
        ]
        uri = Scores(self.scores).scan(scan.patient_id, scan.scan_id, self.model_id)
        return uri, parquet_bytes(to_arrow(SCORED_SLICES, rows))

    def _quarantine(self, scan_id: str, problems: Sequence[Problem]) -> tuple[Uri, bytes]:
        time = datetime.now(UTC)
        rows = [columns(QuarantineRow.of(problem, self.job_id, time)) for problem in problems]
        name = places.file_name(scan_id, f"--{self.model_id}.parquet")
        return join(Lake(self.scores).quarantine, name), parquet_bytes(to_arrow(QUARANTINE, rows))
