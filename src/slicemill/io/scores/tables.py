"""Tables of a score folder: patients, a view of the manifest, as Parquet and CSV; slices of one scan."""

from __future__ import annotations

import csv
import dataclasses
import io
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from slicemill.core.evaluation.rows import ManifestEntry, ScanScore, ScoredSlice
from slicemill.io import storage
from slicemill.io.parquet import read_file, read_small_or_empty, write_small
from slicemill.io.places import Scores
from slicemill.io.spreadsheet import text_cell
from slicemill.io.storage.commits import Commit, list_commits
from slicemill.schemas import MANIFEST, SCHEMA_VERSION, SCORED_PATIENTS, SCORED_SLICES
from slicemill.types import Uri

MANIFEST_SUFFIX = ".parquet"

_SCORE_FIELDS = tuple(field.name for field in dataclasses.fields(ScanScore))
_ENTRY_FIELDS = ("source_fingerprint", "outputs", "output_hashes", "job_id")


def entries(home: Uri) -> list[Commit]:
    """Every manifest entry, by one listing."""
    return list_commits(Scores(home).manifest, MANIFEST_SUFFIX)


def read_entry(uri: Uri) -> ManifestEntry:
    """One manifest entry.

    Raises InputError if it can't be read, LakeVersionError if it is of another version.
    """
    (row,) = read_file(uri, MANIFEST).to_pylist()
    fields = {name: _value(row[name]) for name in _ENTRY_FIELDS}
    return ManifestEntry(score=_score({**row, "manifest": uri.rpartition("/")[2]}), **fields)


def patient_rows(home: Uri) -> list[ScanScore]:
    """Rows of the patients table, none where there is no table."""
    return [_score(row) for row in read_small_or_empty(Scores(home).patients, SCORED_PATIENTS).to_pylist()]


def publish(home: Uri) -> list[ScanScore]:
    """Write the patients table and its CSV from the manifest; return the rows.

    Entries that the table holds already are not read again.
    """
    commits = {commit.uri.rpartition("/")[2]: commit for commit in entries(home)}
    earlier = {row.manifest: row for row in patient_rows(home) if row.manifest in commits}
    missing = [commit for name, commit in commits.items() if name not in earlier]
    rows = [*earlier.values(), *storage.each(lambda commit: read_entry(commit.uri).score, missing, home)]
    rows.sort(key=lambda row: (row.patient_id, row.scan_id, row.model_id))
    write_small(Scores(home).patients, SCORED_PATIENTS, [vars(row) for row in rows])
    storage.write_bytes(Scores(home).patients_csv, _csv(rows))
    return rows


def slice_rows(home: Uri, scan: ScanScore, columns: Sequence[str]) -> list[ScoredSlice]:
    """Predicted slices of a scan, by its row of the patients table; other columns have their defaults."""
    if not scan.slices:
        return []
    uri = Scores(home).scan(scan.patient_id, scan.scan_id, scan.model_id)
    # Columns that an earlier release did not write are passed over.
    return [ScoredSlice(**row) for row in read_file(uri, SCORED_SLICES, columns).to_pylist()]


def _score(row: Mapping[str, Any]) -> ScanScore:
    return ScanScore(**{name: _value(row[name]) for name in _SCORE_FIELDS if name in row})


def _value(stored: Any) -> Any:
    return tuple(stored) if isinstance(stored, list) else stored


def _csv(rows: Sequence[ScanScore]) -> bytes:
    """Rows as CSV: patients that the model has seen come last, their column says so.

    Counts by probability, a list of twenty numbers a scan, are in the Parquet table alone.
    """
    sink = io.StringIO()
    writer = csv.writer(sink, lineterminator="\n")
    names = [name for name in SCORED_PATIENTS.names if not name.endswith("_by_probability")]
    writer.writerow(names)
    for row in sorted(rows, key=lambda row: bool(row.seen)):
        cells = {"schema_version": SCHEMA_VERSION, **vars(row)}
        writer.writerow([_cell(cells[name]) for name in names])
    return sink.getvalue().encode()


def _cell(value: Any) -> Any:
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat(timespec="seconds")
    text = "; ".join(map(str, value)) if isinstance(value, tuple) else value
    return text_cell(text) if isinstance(text, str) else text
