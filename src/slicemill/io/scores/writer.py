"""Write one scored scan: masks, slices table, and last the manifest entry that makes it count."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
import numpy.typing as npt

from slicemill.core.evaluation.rows import ManifestEntry, ScanScore, ScoredSlice
from slicemill.core.scans.integrity import Problem
from slicemill.core.scans.scan import Scan
from slicemill.io import places, storage
from slicemill.io.lake.rows import QuarantineRow, columns
from slicemill.io.parquet import parquet_bytes, to_arrow
from slicemill.io.places import Lake, Scores
from slicemill.io.raw.tiff_write import encode_mask
from slicemill.io.scores.extras import NO_EXTRAS, Extras
from slicemill.io.scores.tables import MANIFEST_SUFFIX, read_entry
from slicemill.io.storage.commits import commit_uri
from slicemill.io.storage.fence import Fence
from slicemill.io.storage.uri import join, relative
from slicemill.schemas import MANIFEST, QUARANTINE, SCORED_SLICES
from slicemill.types import ScanMasks, Uri

#: An output: where it goes, and its bytes.
_Output = tuple[Uri, bytes]


@dataclass(frozen=True)
class ScanOutput:
    """What scoring made of one scan: 0/1 masks (S, H, W), rows of its slices, and its own row.

    `levels`: probabilities of its voxels in steps of 1/255, uint8 (S, H, W). A classifier gives neither.
    """

    scan: Scan
    masks: ScanMasks | None
    slices: tuple[ScoredSlice, ...]
    score: ScanScore
    levels: npt.NDArray[np.uint8] | None = None


@dataclass(frozen=True)
class ScoreWriter:
    """What a worker needs to write scores: behind which fence, for which model and run."""

    fence: Fence
    mask_folder: str
    model_id: str
    job_id: str
    extras: Extras = NO_EXTRAS

    @property
    def scores(self) -> Uri:
        """The score folder's URI."""
        return self.fence.home

    def entry_uri(self, scan_id: str, key: str) -> Uri:
        """Where the manifest entry of a scan lies."""
        return commit_uri(Scores(self.scores).manifest, scan_id, key, MANIFEST_SUFFIX)

    def write(self, output: ScanOutput, fingerprint: str, key: str, stale: Sequence[Uri]) -> ManifestEntry:
        """Write all outputs of a scan, then its manifest entry; return the entry.

        `stale` are manifest entries of an earlier input of the same scan and model: they go first, and before
        them what they vouch for and this input no longer gives, such as the mask of a slice that is gone.
        Raises LockLostError if this run no longer holds the folder, StorageError if it can't be written.
        """
        files = self._masks(output) + self._extras(output)
        if output.slices:
            files.append(self._slices(output))
        if output.scan.problems:
            files.append(self._quarantine(output.scan.scan_id, output.scan.problems))
        self.fence.check()
        self._remove_stale(stale, {uri for uri, _ in files})
        hashes = storage.each(lambda file: self._put(*file), files, self.scores)
        uri = self.entry_uri(output.scan.scan_id, key)
        entry = ManifestEntry(
            score=dataclasses.replace(
                output.score,
                quarantined=len(output.scan.problems),
                model_id=self.model_id,
                scored_at=datetime.now(UTC),
                manifest=uri.rpartition("/")[2],
            ),
            source_fingerprint=fingerprint,
            outputs=tuple(relative(uri, self.scores) for uri, _ in files),
            output_hashes=tuple(hashes),
            job_id=self.job_id,
        )
        stored = {**vars(entry.score), **vars(entry)}
        self.fence.write(uri, parquet_bytes(to_arrow(MANIFEST, [stored])))
        return entry

    def _remove_stale(self, stale: Sequence[Uri], current: set[Uri]) -> None:
        for entry in stale:
            if not storage.exists(entry):
                continue  # an earlier attempt of this task came so far
            for output in read_entry(entry).outputs:
                uri = join(self.scores, output)
                if uri not in current:
                    storage.remove(uri)
            self.fence.remove(entry)

    def _put(self, uri: Uri, data: bytes) -> str:
        storage.write_bytes(uri, data)
        return hashlib.sha256(data).hexdigest()

    def _masks(self, output: ScanOutput) -> list[_Output]:
        if output.masks is None:
            return []
        scan_id = output.scan.scan_id
        home = join(self.scores, self.mask_folder, scan_id)
        return [
            (join(home, f"{scan_id}_{source.slice_index}_pred.tif"), encode_mask(mask))
            for source, mask in zip(output.scan.slices, output.masks, strict=True)
        ]

    def _extras(self, output: ScanOutput) -> list[_Output]:
        scan = output.scan
        if output.masks is None or not scan.slices:
            return []
        suffix = self.mask_folder.removeprefix("masks")
        home = join(self.scores, f"volumes{suffix}", scan.scan_id)
        files = self.extras.files(scan, output.masks, output.levels, self.model_id)
        return [(join(home, name), data) for name, data in files]

    def _slices(self, output: ScanOutput) -> _Output:
        scan = output.scan
        rows = [{**vars(row), "scan_id": scan.scan_id, "model_id": self.model_id} for row in output.slices]
        uri = Scores(self.scores).scan(scan.patient_id, scan.scan_id, self.model_id)
        return uri, parquet_bytes(to_arrow(SCORED_SLICES, rows))

    def _quarantine(self, scan_id: str, problems: Sequence[Problem]) -> _Output:
        time = datetime.now(UTC)
        rows = [columns(QuarantineRow.of(problem, self.job_id, time)) for problem in problems]
        name = places.file_name(scan_id, f"--{self.model_id}.parquet")
        return join(Lake(self.scores).quarantine, name), parquet_bytes(to_arrow(QUARANTINE, rows))
