"""The calls to AWS: the only module of this room that knows boto3."""

from __future__ import annotations

import gzip
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any

import boto3
from botocore.exceptions import BotoCoreError, ClientError

from slicemill.errors import InputError, MachineError

#: One request to EMR: the operation's name in boto3, and its keyword arguments.
Request = tuple[str, Mapping[str, Any]]

_STEP_LOGS = ("stdout.gz", "stderr.gz", "controller.gz")


@cache
def _client(service: str, region: str | None) -> Any:
    return boto3.client(service, region_name=region)


@contextmanager
def _as_ours() -> Iterator[None]:
    try:
        yield
    except ClientError as error:
        told = error.response["Error"]
        raise InputError(
            f"AWS refused {error.operation_name}",
            expected="an answer",
            found=f"{told.get('Code')}: {told.get('Message')}",
        ) from error
    except BotoCoreError as error:
        raise MachineError(
            "AWS could not be asked",
            expected="credentials and a region, as the AWS CLI takes them",
            found=f"{type(error).__name__}: {error}",
        ) from error


def call(request: Request, region: str | None = None) -> dict[str, Any]:
    """Send one request to EMR and return the answer. Raises InputError or MachineError."""
    operation, arguments = request
    with _as_ours():
        answer: dict[str, Any] = getattr(_client("emr", region), operation)(**arguments)
    return answer


def steps(request: Request) -> list[dict[str, Any]]:
    """All steps that a `list_steps` request names, oldest first. Raises InputError or MachineError."""
    operation, arguments = request
    with _as_ours():
        pages = _client("emr", None).get_paginator(operation).paginate(**arguments)
        found = [step for page in pages for step in page["Steps"]]
    return found[::-1]


def step_logs(log_uri: str, cluster: str, step: str, lines: int) -> dict[str, Sequence[str]]:
    """The last lines of each of a step's logs that EMR has copied to S3, by the log's name.

    Raises InputError or MachineError.
    """
    # DescribeCluster gives the scheme that the cluster was started with, which may be s3n.
    bucket, _, prefix = log_uri.partition("://")[2].partition("/")
    found: dict[str, Sequence[str]] = {}
    for name in _STEP_LOGS:
        key = f"{prefix.rstrip('/')}/{cluster}/steps/{step}/{name}".lstrip("/")
        with _as_ours():
            try:
                body = _client("s3", None).get_object(Bucket=bucket, Key=key)["Body"].read()
            except _client("s3", None).exceptions.NoSuchKey:
                continue
        found[name.removesuffix(".gz")] = (
            gzip.decompress(body).decode("utf-8", "replace").splitlines()[-lines:]
        )
    return found
