"""Write one scan into the lake: its slices, its profile, and last the commit that makes it count."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np

from slicemill.core.profiles.scan_profile import ScanProfile
from slicemill.core.scans.discovery import ScanTask
from slicemill.core.scans.scan import Scan, Slice
from slicemill.io import places, storage
from slicemill.io.lake.commits import COMMIT_SUFFIX, ScanCommit
from slicemill.io.lake.rows import QuarantineRow, ScanRow, TotalsRow
from slicemill.io.parquet import arrow_field, parquet_bytes, pixel_column, to_arrow
from slicemill.io.places import Lake
from slicemill.io.storage.commits import commit_uri
from slicemill.io.storage.fence import Fence
from slicemill.io.storage.uri import join, relative
from slicemill.schemas import PATIENT_ID, PROFILE, SLICES
from slicemill.types import Uri


@dataclass(frozen=True)
class LakeWriter:
    """What a worker needs to write scans: where, in which layout, for which run, behind which fence.

    `bucket` 0 gives a partition a patient; N groups patients into N partitions.
    """

    fence: Fence
    bucket: int
    job_id: str
    started: datetime

    @property
    def lake(self) -> Uri:
        """The lake's URI."""
        return self.fence.home

    def write(
        self, task: ScanTask, scan: Scan, profile: ScanProfile | None, stale: Iterable[Uri]
    ) -> ScanCommit:
        """Write a scan that was read and profiled, and commit it; return the commit.

        A scan without slices has no profile. `stale` are commits of an earlier state of the scan: they go
        first, so that a run killed in between leaves no commit rather than a wrong one.

        Raises LockLostError if this run no longer holds the lake, StorageError if the lake can't be written.
        """
        for uri in stale:
            self.fence.remove(uri)
        quarantine = tuple(QuarantineRow.of(problem, self.job_id, self.started) for problem in scan.problems)
        sources: dict[str, str] = {source.uri: source.sha256 for source in scan.sources}
        if profile is None:
            self.remove_data(task.scan_id, task.patient_id)
            commit = ScanCommit(None, None, quarantine, sources, {}, self.fence.token)
        else:
            files = self._files(task, scan, profile)
            storage.each(lambda file: self.fence.write(*file), files, self.lake)
            outputs = {relative(file, self.lake): hashlib.sha256(data).hexdigest() for file, data in files}
            row = self._row(task, scan, profile, files[0][0])
            totals = TotalsRow(**profile.totals().row())
            commit = ScanCommit(row, totals, quarantine, sources, outputs, self.fence.token)
        uri = commit_uri(Lake(self.lake).commits, task.scan_id, task.fingerprint, COMMIT_SUFFIX)
        self.fence.write_json(uri, commit.to_json(), indent=None)
        return commit

    def _files(self, task: ScanTask, scan: Scan, profile: ScanProfile) -> list[tuple[Uri, bytes]]:
        """The scan's slices and its profile, as they are stored."""
        in_file = [arrow_field(PATIENT_ID)] if self.bucket else []
        patient = {"patient_id": task.patient_id} if self.bucket else {}
        slice_rows = [{**_slice_row(scan.scan_id, slice_), **patient} for slice_ in scan.slices]
        profile_rows = [{**channel.row(), **patient} for channel in profile.channel_profiles()]
        pixels = {
            "image": pixel_column([slice_.image for slice_ in scan.slices]),
            "mask": pixel_column([slice_.mask for slice_ in scan.slices]),
        }
        tables = {
            Lake(self.lake).slices: to_arrow(SLICES, slice_rows, in_file, pixels),
            Lake(self.lake).profile: to_arrow(PROFILE, profile_rows, in_file),
        }
        return [
            (self.data_uri(folder, task.scan_id, task.patient_id), parquet_bytes(table))
            for folder, table in tables.items()
        ]

    def _row(self, task: ScanTask, scan: Scan, profile: ScanProfile, data_uri: Uri) -> ScanRow:
        return ScanRow(
            patient_id=task.patient_id,
            scan_id=task.scan_id,
            scan_date=task.scan_date,
            institution=task.institution,
            **profile.scan_columns().row(),
            quarantined=len(scan.problems),
            data_uri=relative(data_uri, self.lake),
            source_fingerprint=task.fingerprint,
            content_hash=content_hash(scan),
            job_id=self.job_id,
        )

    def data_uri(self, folder: Uri, scan_id: str, patient_id: str) -> Uri:
        """A scan's Parquet file below a partitioned table."""
        if self.bucket:
            width = len(str(self.bucket - 1))
            number = zlib.crc32(patient_id.encode()) % self.bucket
            home = places.partition(folder, "patient_bucket", f"{number:0{width}d}")
        else:
            home = places.partition(folder, "patient_id", patient_id)
        return join(home, Lake(self.lake).data_name(scan_id))

    def remove_data(self, scan_id: str, patient_id: str) -> None:
        """Remove a scan's slices and profile."""
        for folder in (Lake(self.lake).slices, Lake(self.lake).profile):
            self.fence.remove(self.data_uri(folder, scan_id, patient_id))


def _slice_row(scan_id: str, slice_: Slice) -> dict[str, Any]:
    height, width, channels = slice_.image.shape
    return {
        "scan_id": scan_id,
        "slice_index": slice_.slice_index,
        "height": height,
        "width": width,
        "channels": channels,
        "mask_status": slice_.mask_status,
        "tumour_pixels": None if slice_.mask is None else int(np.count_nonzero(slice_.mask)),
        "source_uri": slice_.source_uri,
        "source_fingerprint": slice_.fingerprint,
        "conversion": slice_.conversion,
    }


def content_hash(scan: Scan) -> str:
    """SHA-256 over a scan's slices in order: numbers, sizes, fingerprints; no URI, no time."""
    digest = hashlib.sha256()
    for slice_ in scan.slices:
        shape = slice_.image.shape
        digest.update(
            f"{slice_.slice_index}|{shape}|{slice_.mask_status}|{slice_.conversion}|{slice_.fingerprint}\n".encode()
        )
    return digest.hexdigest()
