"""The calls to AWS: the only module of this room that knows boto3."""

from __future__ import annotations

import gzip
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import boto3
from boto3.exceptions import S3UploadFailedError
from botocore.exceptions import BotoCoreError, ClientError
from botocore.validate import ParamValidator

from slicemill.emr.answers import ClusterState, StepState
from slicemill.errors import ConfigError, InputError, MachineError

#: One request to EMR: the operation's name in boto3, and its keyword arguments.
Request = tuple[str, Mapping[str, Any]]

_STEP_LOGS = ("stdout.gz", "stderr.gz", "controller.gz")


@cache
def _client(service: str, region: str | None) -> Any:
    return boto3.client(service, region_name=region)


@contextmanager
def _aws_errors() -> Iterator[None]:
    try:
        yield
    except ClientError as error:
        answer = error.response["Error"]
        raise InputError(
            f"AWS refused {error.operation_name}",
            expected="an answer",
            found=f"{answer.get('Code')}: {answer.get('Message')}",
        ) from error
    except BotoCoreError as error:
        raise MachineError(
            "AWS did not answer",
            expected="credentials and a region, as the AWS CLI takes them",
            found=f"{type(error).__name__}: {error}",
        ) from error


def check(request: Request, service: str = "emr") -> None:
    """Hold a request against the service's own model. Raises ConfigError for what it does not know."""
    operation, arguments = request
    model = _client(service, "us-east-1").meta
    shape = model.service_model.operation_model(model.method_to_api_mapping[operation]).input_shape
    report = ParamValidator().validate(dict(arguments), shape)
    if report.has_errors():
        raise ConfigError(
            f"{operation} does not take this request",
            expected="fields and types of the service's own model",
            found=report.generate_report(),
        )


def call(request: Request, region: str | None = None, service: str = "emr") -> dict[str, Any]:
    """Send one request and return the answer. Raises InputError or MachineError."""
    operation, arguments = request
    with _aws_errors():
        answer: dict[str, Any] = getattr(_client(service, region), operation)(**arguments)
    return answer


def pages(
    request: Request, key: str, region: str | None = None, service: str = "emr"
) -> list[dict[str, Any]]:
    """Everything below `key` in all pages of an answer. Raises InputError or MachineError."""
    operation, arguments = request
    with _aws_errors():
        answers = _client(service, region).get_paginator(operation).paginate(**arguments)
        return [item for answer in answers for item in answer[key]]


def cluster(cluster_id: str, region: str | None = None) -> ClusterState:
    """A cluster by its id. Raises InputError or MachineError."""
    return ClusterState.of(call(("describe_cluster", {"ClusterId": cluster_id}), region)["Cluster"])


def steps(cluster_id: str, region: str | None = None) -> list[StepState]:
    """All steps of a cluster, oldest first. Raises InputError or MachineError."""
    answers = pages(("list_steps", {"ClusterId": cluster_id}), "Steps", region)
    return [StepState.of(answer) for answer in answers[::-1]]


def step_logs(
    log_uri: str, cluster: str, step: str, lines: int, region: str | None = None
) -> dict[str, Sequence[str]]:
    """The last lines of each of a step's logs that EMR has copied to S3, by the log's name.

    Raises InputError or MachineError.
    """
    # DescribeCluster gives the scheme that the cluster was started with, which may be s3n.
    bucket, _, prefix = log_uri.partition("://")[2].partition("/")
    logs: dict[str, Sequence[str]] = {}
    for name in _STEP_LOGS:
        body = read_object(bucket, f"{prefix.rstrip('/')}/{cluster}/steps/{step}/{name}".lstrip("/"), region)
        if body is not None:
            text = gzip.decompress(body).decode("utf-8", "replace")
            logs[name.removesuffix(".gz")] = text.splitlines()[-lines:]
    return logs


def upload(uri: str, path: Path, content: bytes | None, region: str | None = None) -> None:
    """Write an object from a file, or from bytes. Raises InputError or MachineError."""
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    with _aws_errors():
        try:
            if content is None:
                _client("s3", region).upload_file(str(path), bucket, key)
            else:
                _client("s3", region).put_object(Bucket=bucket, Key=key, Body=content)
        except S3UploadFailedError as error:
            raise InputError(f"{uri} can't be written", expected="an upload", found=str(error)) from error


def read_object(bucket: str, key: str, region: str | None = None) -> bytes | None:
    """An object's bytes; None if there is no such object. Raises InputError or MachineError."""
    s3 = _client("s3", region)
    with _aws_errors():
        try:
            body: bytes = s3.get_object(Bucket=bucket, Key=key)["Body"].read()
        except s3.exceptions.NoSuchKey:
            return None
    return body
