"""What lies in an account's data bucket: put there, moved, compared; with the operator's key."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from moto.core import DEFAULT_ACCOUNT_ID
from moto.s3.models import s3_backends
from night import Account

from slicemill.io import storage
from slicemill.io.lake.reader import read_scans
from slicemill.io.scores.check import check_entry


@dataclass(frozen=True)
class Content:
    """Of lake and scores: what does not depend on the time, or on the run that wrote it."""

    scans: dict[str, str]
    """Of each scan of the lake the hash of its content."""
    dice: list[list[str]]
    masks: dict[str, str]
    """Of each mask its SHA-256."""


def read_content(home: Account, run: str) -> Content:
    """Read lake and scores. Raises SystemExit if an output is not what its manifest says."""
    scores = home.site.data("scores", run)
    for entry in storage.list_files(f"{scores}/manifest"):
        check = check_entry(scores, entry.uri)
        if check.missing or check.changed:
            raise SystemExit(f"data.py: outputs are not what {entry.uri} says: {check}")
    table = storage.read_bytes(f"{scores}/patients.csv").decode().splitlines()
    masks = storage.list_files(f"{scores}/masks")
    return Content(
        scans={row.scan_id: row.content_hash for row in read_scans(home.site.data("lake"))},
        # The last columns tell when and by which run; all before them are the scan's own.
        dice=[line.split(",")[:8] for line in table],
        masks={file.uri: hashlib.sha256(storage.read_bytes(file.uri)).hexdigest() for file in masks},
    )


def upload(home: Account, paths: Sequence[Path]) -> None:
    """Put files and folders into raw/, an hour ago: a night leaves what may still be on its way."""
    s3, bucket = home.client("s3"), home.site.data_bucket
    for path in paths:
        for file in [path] if path.is_file() else sorted(path.iterdir()):
            s3.upload_file(str(file), bucket, f"raw/{file.relative_to(path.parent)}")
    backend = s3_backends[DEFAULT_ACCOUNT_ID]["aws"]
    for key, stored in backend.buckets[bucket].keys.items():
        if key.startswith("raw/"):
            stored.last_modified -= timedelta(hours=1)


def clear(home: Account, *prefixes: str) -> None:
    """Remove all below some prefixes."""
    for prefix in prefixes:
        for key in _keys(home, prefix):
            home.client("s3").delete_object(Bucket=home.site.data_bucket, Key=key)


@contextmanager
def without(home: Account, prefix: str) -> Iterator[None]:
    """A bucket that has nothing below a prefix, for a while."""
    _move(home, prefix, "hidden/")
    try:
        yield
    finally:
        _move(home, "hidden/", prefix)


def _move(home: Account, source: str, target: str) -> None:
    s3, bucket = home.client("s3"), home.site.data_bucket
    for key in _keys(home, source):
        place = target + key.removeprefix(source)
        s3.copy_object(Bucket=bucket, Key=place, CopySource={"Bucket": bucket, "Key": key})
    clear(home, source)


def _keys(home: Account, prefix: str) -> list[str]:
    pages = home.client("s3").get_paginator("list_objects_v2")
    rows = pages.paginate(Bucket=home.site.data_bucket, Prefix=prefix)
    return [row["Key"] for page in rows for row in page.get("Contents", ())]
