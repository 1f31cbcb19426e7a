"""Bytes and URIs on disk and in S3: whole files, locks, commits, caches."""

from slicemill.io.storage.files import (
    StoredFile,
    create,
    each,
    exists,
    json_bytes,
    list_files,
    list_or_none,
    now,
    read_bytes,
    read_json,
    read_listed,
    remove,
    remove_empty_folders,
    s3,
    write_bytes,
    write_json,
)

__all__ = [
    "StoredFile",
    "create",
    "each",
    "exists",
    "json_bytes",
    "list_files",
    "list_or_none",
    "now",
    "read_bytes",
    "read_json",
    "read_listed",
    "remove",
    "remove_empty_folders",
    "s3",
    "write_bytes",
    "write_json",
]
