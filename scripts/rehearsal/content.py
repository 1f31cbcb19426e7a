"""What a step wrote, for comparison with what it writes in another way, and its removal.

    python scripts/rehearsal/content.py show|clear LAKE|RUN|SCORES

`show` prints the content, without times and names of runs, as one line of JSON; `clear` removes the objects.
"""

from __future__ import annotations

import hashlib
import json
import sys
from typing import Any

from slicemill.io import storage
from slicemill.io.lake.reader import read_scans
from slicemill.io.scores.check import check_entry


def lake(uri: str) -> dict[str, Any]:
    """Of each scan the hash of its content."""
    return {row.scan_id: row.content_hash for row in read_scans(uri)}


def run(uri: str) -> dict[str, Any]:
    """Names of the files; what is in them differs by the order of sums."""
    return {"files": sorted(file.uri.removeprefix(f"{uri}/") for file in storage.list_files(uri))}


def scores(uri: str) -> dict[str, Any]:
    """Of each scan its Dice and counts, of each mask its hash, all as their manifest says."""
    checks = [check_entry(uri, file.uri) for file in storage.list_files(f"{uri}/manifest")]
    wrong = [name for check in checks for name in check.missing + check.changed]
    if wrong:
        raise SystemExit(f"content.py: not as the manifest says: {wrong}")
    table = storage.read_bytes(f"{uri}/patients.csv").decode().splitlines()
    masks = {
        file.uri.removeprefix(uri): hashlib.sha256(storage.read_bytes(file.uri)).hexdigest()
        for file in storage.list_files(f"{uri}/masks")
    }
    # The last columns tell when and by which run; all before them are the scan's own.
    return {"patients": [line.split(",")[:8] for line in table], "masks": masks}


if __name__ == "__main__":
    verb, uri = sys.argv[1:]
    if verb == "clear":
        for file in storage.list_or_none(uri) or ():
            storage.remove(file.uri)
    else:
        show = {"lake": lake, "runs": run, "scores": scores}[uri.split("/")[3]]
        print(json.dumps(show(uri), sort_keys=True))
