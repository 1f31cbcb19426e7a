"""What scoring left, in a form that two runs can be compared by."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq


@dataclass(frozen=True)
class Outputs:
    """Objects without a time in them by their hash; rows of the others without their times, as JSON."""

    files: dict[str, str]
    rows: list[str]


def outputs(out: Path) -> Outputs:
    """All that scoring left in `out`."""
    files = {
        str(path.relative_to(out)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(out.rglob("*"))
        if path.is_file() and path.parts[len(out.parts)] in ("masks", "slices", "quarantine")
    }
    timeless = [
        {name: value for name, value in row.items() if name not in ("scored_at", "job_id")}
        for folder in ("patients", "manifest")
        for row in pq.read_table(out / folder).to_pylist()
    ]
    return Outputs(files, sorted(json.dumps(row, sort_keys=True) for row in timeless))
