"""Tables of a score folder: patients, a view of the manifest, as Parquet and CSV; slices of one scan."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa

from slicemill.core.splits import refuse_leaky
from slicemill.io import storage
from slicemill.io.parquet import read_file, read_small_or_empty, write_small
from slicemill.io.places import Scores
from slicemill.io.scores.writer import MANIFEST_SUFFIX
from slicemill.io.storage.commits import Commit, list_commits
from slicemill.io.storage.uri import display
from slicemill.schemas import MANIFEST, SCORED_PATIENTS, SCORED_SLICES
from slicemill.types import Uri

Row = dict[str, Any]


def entries(home: Uri) -> list[Commit]:
    """Every manifest entry, by one listing."""
    return list_commits(Scores(home).manifest, MANIFEST_SUFFIX)


def patient_rows(home: Uri) -> list[Row]:
    """Rows of the patients table, none where there is no table."""
    rows: list[Row] = read_small_or_empty(Scores(home).patients, SCORED_PATIENTS).to_pylist()
    return rows


def refuse_leaky_scores(home: Uri) -> None:
    """Raise ConfigError for scores by a model of a split that leaks on purpose."""
    uri = Scores(home).summary("")
    if storage.exists(uri):
        refuse_leaky(storage.read_json(uri).get("model", {}).get("split", ""), display(home))


def publish(home: Uri) -> list[Row]:
    """Write the patients table and its CSV from the manifest; return the rows.

    Entries that the table holds already are not read again.
    """
    commits = {commit.uri.rpartition("/")[2]: commit for commit in entries(home)}
    earlier = {row["manifest"]: row for row in patient_rows(home) if row["manifest"] in commits}
    missing = [commit for name, commit in commits.items() if name not in earlier]
    rows = [*earlier.values(), *storage.each(_entry, missing, home)]
    rows.sort(key=lambda row: (row["patient_id"], row["scan_id"], row["model_id"]))
    write_small(Scores(home).patients, SCORED_PATIENTS, rows)
    storage.write_bytes(Scores(home).patients_csv, _csv(rows))
    return rows


def slice_rows(home: Uri, patient_row: Mapping[str, Any], columns: Sequence[str]) -> list[Row]:
    """Predicted slices of a scan, by its row of the patients table."""
    if not patient_row["slices"]:
        return []
    uri = Scores(home).scan(patient_row["patient_id"], patient_row["scan_id"], patient_row["model_id"])
    rows: list[Row] = read_file(uri, SCORED_SLICES, columns).to_pylist()
    return rows


def _entry(commit: Commit) -> Row:
    table: pa.Table = read_file(commit.uri, MANIFEST)
    row: Row = table.to_pylist()[0]
    return {
        **{name: row.get(name) for name in SCORED_PATIENTS.names},
        "manifest": commit.uri.rpartition("/")[2],
    }


def _csv(rows: Sequence[Row]) -> bytes:
    sink = io.StringIO()
    writer = csv.DictWriter(sink, SCORED_PATIENTS.names, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({name: _cell(row[name]) for name in SCORED_PATIENTS.names})
    return sink.getvalue().encode()


def _cell(value: Any) -> Any:
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat(timespec="seconds")
    return "; ".join(map(str, value)) if isinstance(value, list) else value
