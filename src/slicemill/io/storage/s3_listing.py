"""Listings of S3, by key ranges that are listed at once."""

from __future__ import annotations

import bisect
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

from slicemill.io.storage import s3_client
from slicemill.io.storage.s3_client import LIST_RANGES
from slicemill.io.storage.uri import listed_uri
from slicemill.types import Uri

_PAGE = 1000


class Listed(NamedTuple):
    """An object as a listing has it; `modified` is in seconds since 1970."""

    uri: Uri
    size: int
    tag: str
    modified: float


def list_keys(uri: Uri) -> list[Listed]:
    """Every object below a prefix, unsorted.

    A prefix of one page costs one request. A larger one is cut at its subfolders into key ranges that are
    listed at once: a request a thousand keys, one a thousand subfolders, and at most one a range on top.
    Raises OSError.
    """
    with s3_client.as_os_errors():
        return _list(uri)


def _list(uri: Uri) -> list[Listed]:
    bucket, key = s3_client.bucket_and_key(uri)
    prefix = f"{key}/" if key else ""
    first = s3_client.client().list_objects_v2(Bucket=bucket, Prefix=prefix, MaxKeys=_PAGE)
    if not first.get("IsTruncated"):
        return _rows(bucket, first)
    folders = _subfolders(bucket, prefix)
    # A subfolder's own name sorts before everything in it.
    step = max(1, len(folders) // LIST_RANGES)
    bounds = ["", *folders[step::step]]
    with ThreadPoolExecutor(LIST_RANGES) as pool:
        ranges = pool.map(lambda number: _range(bucket, prefix, bounds, number), range(len(bounds)))
        return [row for rows in ranges for row in rows]


def _subfolders(bucket: str, prefix: str) -> list[str]:
    pages = (
        s3_client.client()
        .get_paginator("list_objects_v2")
        .paginate(Bucket=bucket, Prefix=prefix, Delimiter="/")
    )
    return sorted(entry["Prefix"] for page in pages for entry in page.get("CommonPrefixes", ()))


def _range(bucket: str, prefix: str, bounds: list[str], number: int) -> list[Listed]:
    end = bounds[number + 1] if number + 1 < len(bounds) else None
    rows: list[Listed] = []
    for page in _pages(bucket, prefix, bounds[number]):
        contents = page.get("Contents", ())
        inside = (
            len(contents) if end is None else bisect.bisect_left([entry["Key"] for entry in contents], end)
        )
        rows += _rows(bucket, {"Contents": contents[:inside]})
        if inside < len(contents):
            break
    return rows


def _pages(bucket: str, prefix: str, start_after: str) -> Iterator[Any]:
    extra = {"StartAfter": start_after} if start_after else {}
    yield from (
        s3_client.client().get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix, **extra)
    )


def _rows(bucket: str, page: Any) -> list[Listed]:
    return [
        Listed(
            listed_uri(bucket, entry["Key"]),
            int(entry["Size"]),
            str(entry.get("ETag", "")).strip('"'),
            entry["LastModified"].timestamp(),
        )
        for entry in page.get("Contents", ())
        if not entry["Key"].endswith("/")
    ]
