"""What a verb left in a folder, in a form that two runs can be compared by."""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

#: What differs between two runs with the same result: times, rates, names of runs and locks, --resume.
OF_A_RUN = frozenset(
    {"job_id", "token", "time", "scored_at", "created", "resume"}
    | {"seconds", "training_seconds", "slices_per_second", "scoring_slices_per_second"}
)
#: Folders of files that are compared by every byte, and of files that hold times beside much else.
BY_BYTES, BY_NAME = {"slices", "profile", "masks"}, {"checkpoints", "figures", "failures"}
LOCK = "_lock"


def objects(home: Path) -> dict[str, str]:
    """Every file but the lock, by its path: a hash of its content without what is of a run alone."""
    files = [path for path in sorted(home.rglob("*")) if path.is_file() and path.name != LOCK]
    return {str(path.relative_to(home)): _content(path, path.relative_to(home).parts[:-1]) for path in files}


def differences(ours: Mapping[str, str], theirs: Mapping[str, str]) -> list[str]:
    """Paths that only one of two folders has, or that differ."""
    return sorted(path for path in ours.keys() | theirs.keys() if ours.get(path) != theirs.get(path))


def _content(path: Path, folders: tuple[str, ...]) -> str:
    if BY_NAME & set(folders) or path.suffix == ".html":
        return ""
    if BY_BYTES & set(folders):
        return _hash(path.read_bytes())
    if path.suffix == ".parquet":
        return _rows(pq.read_table(path).to_pylist())
    if path.suffix == ".csv":
        with path.open(newline="") as file:
            return _rows(list(csv.DictReader(file)))
    if path.suffix == ".jsonl":
        return _rows([json.loads(line) for line in path.read_text().splitlines()])
    if path.suffix == ".json":
        return _rows([json.loads(path.read_text())])
    return _hash(path.read_bytes())


def _rows(rows: list[Any]) -> str:
    return _hash(json.dumps(_timeless(rows), sort_keys=True, default=repr).encode())


def _timeless(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _timeless(inner) for name, inner in value.items() if name not in OF_A_RUN}
    return [_timeless(inner) for inner in value] if isinstance(value, list) else value


def _hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
