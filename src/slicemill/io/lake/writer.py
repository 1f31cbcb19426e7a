"""Write one scan into the lake: its slices, its profile, and last the commit that makes it count."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

import numpy as np

from slicemill.core.scans.discovery import ScanTask
from slicemill.core.scans.integrity import Problem
from slicemill.core.scans.profile import ScanProfile
from slicemill.core.scans.scan import Scan, Slice
from slicemill.io import places, storage
from slicemill.io.parquet import arrow_field, parquet_bytes, pixel_column, to_arrow
from slicemill.io.places import Lake
from slicemill.io.raw.scan_reader import read_scan
from slicemill.io.storage.commits import commit_uri
from slicemill.io.storage.uri import join, relative
from slicemill.schemas import PATIENT_ID, PROFILE, SCHEMA_VERSION, SLICES
from slicemill.types import Uri

COMMIT_SUFFIX = ".json"


@dataclass(frozen=True)
class LakeWriter:
    """What a worker needs to write scans: where, in which layout, for which run.

    `bucket` 0 gives a partition a patient; N groups patients into N partitions.
    """

    lake: Uri
    bucket: int
    job_id: str
    started: datetime
    max_pixels: int

    def ingest(self, task: ScanTask, stale: Iterable[Uri]) -> dict[str, Any]:
        """Read a scan, write it and commit it; return the commit.

        `stale` are commits of an earlier state of the scan: they go first, so that a run killed in between
        leaves no commit rather than a wrong one.
        """
        for uri in stale:
            storage.remove(uri)
        scan = read_scan(task, self.max_pixels)
        quarantine = [quarantine_row(problem, self.job_id, self.started) for problem in scan.problems]
        commit: dict[str, Any] = {
            "schema_version": SCHEMA_VERSION,
            "scan": None,
            "totals": None,
            "quarantine": quarantine,
        }
        if scan.slices:
            profile = ScanProfile(scan)
            commit["scan"] = self._write(task, scan, profile)
            commit["totals"] = profile.totals_row()
        else:
            self.remove_data(task.scan_id, task.patient_id)
        commit = _plain(commit)
        uri = commit_uri(Lake(self.lake).commits, task.scan_id, task.fingerprint, COMMIT_SUFFIX)
        storage.write_json(uri, commit, indent=None)
        return commit

    def _write(self, task: ScanTask, scan: Scan, profile: ScanProfile) -> dict[str, Any]:
        in_file = [arrow_field(PATIENT_ID)] if self.bucket else []
        patient = {"patient_id": task.patient_id} if self.bucket else {}
        slice_rows = [{**_slice_row(scan.scan_id, one), **patient} for one in scan.slices]
        profile_rows = [{**row, **patient} for row in profile.slice_rows()]
        data_uri = self.data_uri(Lake(self.lake).slices, task.scan_id, task.patient_id)
        pixels = {
            "image": pixel_column([one.image for one in scan.slices]),
            "mask": pixel_column([one.mask for one in scan.slices]),
        }
        storage.write_bytes(data_uri, parquet_bytes(to_arrow(SLICES, slice_rows, in_file, pixels)))
        profile_uri = self.data_uri(Lake(self.lake).profile, task.scan_id, task.patient_id)
        storage.write_bytes(profile_uri, parquet_bytes(to_arrow(PROFILE, profile_rows, in_file)))
        return {
            "patient_id": task.patient_id,
            "scan_id": task.scan_id,
            "scan_date": task.scan_date,
            "institution": task.institution,
            **profile.scan_columns(),
            "quarantined": len(scan.problems),
            "data_uri": relative(data_uri, self.lake),
            "source_fingerprint": task.fingerprint,
            "content_hash": content_hash(scan),
            "job_id": self.job_id,
            "schema_version": SCHEMA_VERSION,
        }

    def data_uri(self, folder: Uri, scan_id: str, patient_id: str) -> Uri:
        """A scan's Parquet file below a partitioned table."""
        if self.bucket:
            width = len(str(self.bucket - 1))
            number = zlib.crc32(patient_id.encode()) % self.bucket
            home = places.partition(folder, "patient_bucket", f"{number:0{width}d}")
        else:
            home = places.partition(folder, "patient_id", patient_id)
        return join(home, places.file_name(scan_id, ".parquet"))

    def remove_data(self, scan_id: str, patient_id: str) -> None:
        """Remove a scan's slices and profile."""
        for folder in (Lake(self.lake).slices, Lake(self.lake).profile):
            storage.remove(self.data_uri(folder, scan_id, patient_id))


def quarantine_row(problem: Problem, job_id: str, time: datetime) -> dict[str, Any]:
    """A problem as a row of `schemas.QUARANTINE`."""
    return {
        "uri": problem.uri,
        "scan_id": problem.scan_id,
        "reason": str(problem.reason),
        "detail": problem.detail,
        "found": problem.found,
        "expected": problem.expected,
        "job_id": job_id,
        "time": time,
        "schema_version": SCHEMA_VERSION,
    }


def _slice_row(scan_id: str, one: Slice) -> dict[str, Any]:
    height, width, channels = one.image.shape
    return {
        "scan_id": scan_id,
        "slice_index": one.slice_index,
        "height": height,
        "width": width,
        "channels": channels,
        "mask_status": one.mask_status,
        "tumour_pixels": None if one.mask is None else int(np.count_nonzero(one.mask)),
        "source_uri": one.source_uri,
        "source_fingerprint": one.fingerprint,
        "conversion": one.conversion,
    }


def content_hash(scan: Scan) -> str:
    """SHA-256 over a scan's slices in order: numbers, sizes, fingerprints; no URI, no time."""
    digest = hashlib.sha256()
    for one in scan.slices:
        shape = one.image.shape
        digest.update(
            f"{one.slice_index}|{shape}|{one.mask_status}|{one.conversion}|{one.fingerprint}\n".encode()
        )
    return digest.hexdigest()


def _plain(value: Any) -> Any:
    """A commit's values as JSON holds them; `from_commit` is the way back."""
    if isinstance(value, Mapping):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, date | datetime):
        return value.isoformat()
    return value


def from_commit(commit: Mapping[str, Any]) -> dict[str, Any]:
    """A commit's rows as the tables take them: dates, times and hashes typed again."""
    scan, totals = commit["scan"], commit["totals"]
    if scan is not None:
        scan = {**scan, "scan_date": date.fromisoformat(scan["scan_date"]) if scan["scan_date"] else None}
    if totals is not None:
        totals = {**totals, "image_hashes": [bytes.fromhex(text) for text in totals["image_hashes"]]}
    quarantine = [{**row, "time": datetime.fromisoformat(row["time"])} for row in commit["quarantine"]]
    return {"scan": scan, "totals": totals, "quarantine": quarantine}
