"""Where things lie inside a lake, a run and a score folder."""

from __future__ import annotations

from urllib.parse import quote

from slicemill.io.uri import join

#: Characters that Hive's partition folders and file names keep as they are.
_PLAIN = " -_.~!()@$&,;"


def partition(folder: str, column: str, value: str) -> str:
    """Hive partition folder, its value escaped as Spark escapes it."""
    return join(folder, f"{column}={quote(value, safe=_PLAIN)}")


def file_name(scan_id: str, suffix: str) -> str:
    """Name of a scan's own file."""
    return quote(scan_id, safe=_PLAIN) + suffix


def lake_card(lake: str) -> str:
    """JSON that says which schema version and layout a lake has."""
    return join(lake, "lake.json")


def commits(lake: str) -> str:
    """Folder of ingest's commits: one small JSON a scan, written last."""
    return join(lake, "_commits")


def slices(lake: str) -> str:
    """Folder of the slices table."""
    return join(lake, "slices")


def profile(lake: str) -> str:
    """Folder of the profile table."""
    return join(lake, "profile")


def profile_summary(lake: str) -> str:
    """JSON of data set totals and findings."""
    return join(lake, "profile.json")


def scans(lake: str) -> str:
    """Folder of the scans table."""
    return join(lake, "scans")


def totals(lake: str) -> str:
    """Folder of the totals table: histograms and heat map, a row a scan."""
    return join(lake, "totals")


def quarantine(lake: str) -> str:
    """Folder of the quarantine table."""
    return join(lake, "quarantine")


def split(lake: str, name: str) -> str:
    """Folder of a split's table."""
    return join(lake, "splits", name)


def split_card(lake: str, name: str) -> str:
    """JSON with a split's method, seed and hash."""
    return join(lake, "splits", f"{name}.json")


def scored_slices(scores: str) -> str:
    """Folder of the predicted slices, partitioned by patient."""
    return join(scores, "slices")


def scored_scan(scores: str, patient_id: str, scan_id: str, model_id: str) -> str:
    """A scan's own file of predicted slices, by one model."""
    home = partition(scored_slices(scores), "patient_id", patient_id)
    return join(home, file_name(scan_id, f"--{model_id}.parquet"))


def scored_patients(scores: str) -> str:
    """Folder of the table with a row per patient's scan."""
    return join(scores, "patients")


def scored_patients_csv(scores: str) -> str:
    """The same table as CSV."""
    return join(scores, "patients.csv")


def masks(scores: str, scan_id: str) -> str:
    """Folder of a scan's predicted masks."""
    return join(scores, "masks", scan_id)


def manifest(scores: str) -> str:
    """Folder of the manifest: one row a file, a file a finished scan."""
    return join(scores, "manifest")


def score_summary(scores: str, suffix: str) -> str:
    """JSON of the last run's evaluation; the suffix tells later models of one folder apart."""
    return join(scores, f"summary{suffix}.json")


def score_card(scores: str) -> str:
    """JSON that says which schema version a score folder has, and which model wrote to it first."""
    return join(scores, "scores.json")
