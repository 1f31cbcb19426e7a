"""Objects in S3 by boto3: one request each to read, write, look or remove.

s3fs would ask for an object's size before it reads it, which doubles the requests of an ingest.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from functools import cache
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from slicemill.io.storage.faults import S3Error, from_s3
from slicemill.types import Uri

log = logging.getLogger(__name__)

#: Key ranges that `s3_listing` lists at once.
LIST_RANGES = 16
_PLAIN_TAG = re.compile("[0-9a-f]{32}")
#: Times that an object's body is asked for.
_BODY_ATTEMPTS = 5
#: What S3 answers when the condition of a write does not hold.
_LOST = ("PreconditionFailed", "ConditionalRequestConflict", "NoSuchKey", "412", "409", "404")


@cache
def _client(process: int, *, hasty: bool = False) -> Any:
    # Connections do not survive a fork, so every process has its own client.
    # Adaptive retries throttle themselves: with one refusal in ten 150 reads took 47 s, with these 2.
    config = Config(retries={"mode": "standard", "max_attempts": 10}, max_pool_connections=2 * LIST_RANGES)
    if hasty:
        config = config.merge(
            Config(retries={"mode": "standard", "total_max_attempts": 1}, connect_timeout=3, read_timeout=5)
        )
    return boto3.client("s3", config=config)


def client(*, hasty: bool = False) -> Any:
    """The S3 client of this process; a `hasty` one gives up within seconds, for callers that try again."""
    return _client(os.getpid(), hasty=hasty)


@contextmanager
def as_os_errors() -> Iterator[None]:
    """botocore's errors as OSErrors, as disks raise them."""
    try:
        yield
    except ClientError as error:
        answer = error.response.get("Error", {})
        raise from_s3(str(answer.get("Code", "")), str(answer.get("Message", ""))) from error
    except (BotoCoreError, ValueError) as error:
        # botocore has a ValueError for an endpoint that is not a URL.
        raise S3Error(type(error).__name__, str(error)) from error


def bucket_and_key(uri: Uri) -> tuple[str, str]:
    """Bucket and key of a canonical S3 URI."""
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    return bucket, key


def holds_something(uri: Uri) -> bool:
    """Whether there is an object of this key, or one below it. Gives up within seconds. Raises OSError."""
    bucket, key = bucket_and_key(uri)
    with as_os_errors():
        page = client(hasty=True).list_objects_v2(Bucket=bucket, Prefix=key, MaxKeys=1)
    return bool(page.get("Contents"))


def read(uri: Uri) -> bytes:
    """A whole object, verified, in one request unless it comes broken. Raises OSError."""
    with as_os_errors():
        return _get(uri)


def read_listed(uri: Uri, size: int, tag: str) -> bytes:
    """A whole object as it was listed, verified.

    Raises OSError: FileNotFoundError only if a listing confirms that the object is gone, S3Error if it was
    replaced since.
    """
    bucket, key = bucket_and_key(uri)
    with as_os_errors():
        try:
            return _get(uri, size, tag)
        except client().exceptions.NoSuchKey:
            if _is_listed(bucket, key):
                raise S3Error("NoSuchKey", "though the object is listed") from None
            raise


def _is_listed(bucket: str, key: str) -> bool:
    try:
        page = client().list_objects_v2(Bucket=bucket, Prefix=key, MaxKeys=1)
    except ClientError as error:
        raise S3Error("NoSuchKey", f"and no listing confirms it: {error}") from error
    return any(entry["Key"] == key for entry in page.get("Contents", ()))


def _get(uri: Uri, size: int | None = None, tag: str | None = None) -> bytes:
    condition = {"IfMatch": f'"{tag}"'} if tag else {}
    return _body(uri, client(), size, **condition)[1]


def _body(
    uri: Uri, requests: Any, size: int | None = None, **condition: str
) -> tuple[Mapping[str, Any], bytes]:
    """S3's answer and an object's bytes, verified by its checksum, its ETag and its listed size.

    botocore tries a request again, but not a body that breaks off half-way or is not the object's.
    """
    bucket, key = bucket_and_key(uri)
    for _ in range(_BODY_ATTEMPTS):
        answer = requests.get_object(Bucket=bucket, Key=key, **condition)
        try:
            # Where the object has a checksum of its own, botocore compares it.
            data = bytes(answer["Body"].read())
        except BotoCoreError as error:
            difference: str | None = str(error)
        else:
            difference = _difference(answer, data, size)
            if difference is None:
                return answer, data
        log.warning("%s came broken and is read again: %s", uri, difference)
    raise S3Error("BrokenBody", f"{_BODY_ATTEMPTS} times: {difference}")


def _difference(answer: Mapping[str, Any], data: bytes, size: int | None) -> str | None:
    """How an object's bytes differ from what S3 says of them; None if they do not."""
    if size is not None and len(data) != size:
        return f"{len(data)} bytes came, {size} were listed"
    tag = str(answer.get("ETag", "")).strip('"')
    # The ETag of an object that was put whole is its MD5, unless a key of KMS or of the caller encrypts it.
    encrypted = answer.get("SSECustomerAlgorithm") or "kms" in str(answer.get("ServerSideEncryption", ""))
    if encrypted or not _PLAIN_TAG.fullmatch(tag):
        return None
    digest = hashlib.md5(data, usedforsecurity=False).hexdigest()
    return None if digest == tag else f"the MD5 of the bytes is {digest}, the ETag is {tag}"


def write(uri: Uri, data: bytes) -> None:
    """Write a whole object, in one request. Raises OSError."""
    bucket, key = bucket_and_key(uri)
    with as_os_errors():
        client().put_object(Bucket=bucket, Key=key, Body=data)


def remove(uri: Uri) -> None:
    """Remove an object; S3 does not mind if there is none. Raises OSError."""
    bucket, key = bucket_and_key(uri)
    with as_os_errors():
        client().delete_object(Bucket=bucket, Key=key)


def exists(uri: Uri) -> bool:
    """Whether an object is there. Raises OSError."""
    bucket, key = bucket_and_key(uri)
    try:
        with as_os_errors():
            client().head_object(Bucket=bucket, Key=key)
    except FileNotFoundError:
        return False
    return True


@dataclass(frozen=True)
class TaggedObject:
    """An object, its ETag, and its age in seconds by the storage's own clock; None if it has no clock."""

    data: bytes
    tag: str
    age: float | None


def clock(uri: Uri) -> float | None:
    """Seconds since 1970 by the storage's own clock; None if it has none. Raises OSError."""
    bucket, key = bucket_and_key(uri)
    with as_os_errors():
        answer = client().list_objects_v2(Bucket=bucket, Prefix=key, MaxKeys=1)
    date = answer["ResponseMetadata"]["HTTPHeaders"].get("date")
    return parsedate_to_datetime(date).timestamp() if date else None


def read_tagged(uri: Uri, *, hasty: bool = False) -> TaggedObject | None:
    """A small object with its ETag and age; None if it is not there. Raises OSError."""
    try:
        with as_os_errors():
            answer, data = _body(uri, client(hasty=hasty))
    except FileNotFoundError:
        return None
    date = answer["ResponseMetadata"]["HTTPHeaders"].get("date")
    age = (parsedate_to_datetime(date) - answer["LastModified"]).total_seconds() if date else None
    return TaggedObject(data, str(answer["ETag"]), age)


def tag_of(uri: Uri) -> str | None:
    """An object's ETag; None if it is not there. Raises OSError."""
    bucket, key = bucket_and_key(uri)
    try:
        with as_os_errors():
            return str(client().head_object(Bucket=bucket, Key=key)["ETag"])
    except FileNotFoundError:
        return None


def write_if(uri: Uri, data: bytes, tag: str | None, *, hasty: bool = False) -> str | None:
    """Write an object only if it still has this ETag (None: only if it is not there).

    Returns the new ETag, or None if somebody else was faster. Raises OSError.
    """
    bucket, key = bucket_and_key(uri)
    condition = {"IfMatch": tag} if tag else {"IfNoneMatch": "*"}
    with as_os_errors():
        try:
            answer = client(hasty=hasty).put_object(Bucket=bucket, Key=key, Body=data, **condition)
            return str(answer["ETag"])
        except ClientError as error:
            if error.response["Error"]["Code"] not in _LOST:
                raise
        # The answer to our own write can get lost, and botocore's second try then finds the first.
        current = read_tagged(uri, hasty=hasty)
        return current.tag if current and current.data == data else None


def remove_if(uri: Uri, tag: str) -> bool:
    """Remove an object only if it still has this ETag, and say whether it had. Raises OSError."""
    bucket, key = bucket_and_key(uri)
    with as_os_errors():
        try:
            client().delete_object(Bucket=bucket, Key=key, IfMatch=tag)
        except ClientError as error:
            if error.response["Error"]["Code"] not in _LOST:
                raise
            return False
    return True
