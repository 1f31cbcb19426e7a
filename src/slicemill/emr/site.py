"""What one AWS account holds for slicemill: the outputs of the foundation stack."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from pathlib import Path

from slicemill.emr.capacity.instances import Instance
from slicemill.errors import ConfigError


@dataclass(frozen=True)
class Site:
    """Names and ARNs of an account's buckets, key, network and roles."""

    region: str
    data_bucket: str
    code_bucket: str
    log_bucket: str
    key_arn: str
    subnet_id: str
    primary_group: str
    core_group: str
    service_group: str
    service_role: str
    pipeline_profile: str
    training_profile: str
    notebook_profile: str
    security_configuration: str
    training_security_configuration: str

    serverless_role_arn: str = ""
    """Of foundations that were deployed before it was there: empty."""

    def data(self, *path: str) -> str:
        """s3:// URI below the data bucket."""
        return "/".join((f"s3://{self.data_bucket}", *path))

    def code(self, *path: str) -> str:
        """s3:// URI below the code bucket."""
        return "/".join((f"s3://{self.code_bucket}", *path))

    @classmethod
    def from_outputs(cls, outputs: Mapping[str, str]) -> Site:
        """From a stack's outputs, whose keys are these fields in CamelCase. Raises ConfigError."""
        keys = {field.name: output_key(field.name) for field in fields(cls)}
        optional = {field.name for field in fields(cls) if field.default is not MISSING}
        missing = [key for name, key in keys.items() if not outputs.get(key) and name not in optional]
        if missing:
            raise ConfigError(
                "--site lacks outputs of the foundation stack",
                expected=", ".join(keys.values()),
                found=f"no {', '.join(missing)}",
            )
        return cls(**{name: outputs[key] for name, key in keys.items() if outputs.get(key)})

    @classmethod
    def placeholders(cls) -> Site:
        """A site of `${Output}` marks, which CloudFormation fills in."""
        return cls(**{field.name: f"${{{output_key(field.name)}}}" for field in fields(cls)})


def output_key(name: str) -> str:
    """The stack output of a field: data_bucket is DataBucket."""
    return "".join(part.capitalize() for part in name.split("_"))


def read_site(path: str) -> Site:
    """A site from the file that `aws cloudformation describe-stacks --query Stacks[0].Outputs` wrote.

    Raises ConfigError if it is no such file or lacks an output.
    """
    return Site.from_outputs({row["OutputKey"]: row["OutputValue"] for row in site_rows(path)})


def site_rows(path: str) -> list[dict[str, str]]:
    """Key and value of each output in a site file. Raises ConfigError."""
    try:
        rows = json.loads(Path(path).read_text("utf-8"))
        return [{key: str(row[key]) for key in ("OutputKey", "OutputValue")} for row in rows]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(
            "--site can't be read",
            expected="the JSON list of the foundation stack's outputs",
            found=f"{type(error).__name__}: {error}",
            advice="`aws cloudformation describe-stacks --query 'Stacks[0].Outputs'` writes it.",
        ) from error


def saved_environment(path: str, *, gpu: bool) -> str:
    """The environment that was uploaded last, by the site file. Raises ConfigError if there is none."""
    kinds = ("gpu",) if gpu else ("cpu", "registry")
    outputs = {row["OutputKey"]: row["OutputValue"] for row in site_rows(path)}
    uris = [outputs[key] for kind in kinds if (key := output_key(f"{kind}_environment")) in outputs]
    if not uris:
        raise ConfigError(
            "--environment is missing",
            expected="s3:// URI of a packed environment, or one that was uploaded before",
            found=f"none for {kinds[0]} nodes in {path}",
            advice="`slicemill emr upload --archive …` writes one.",
        )
    return uris[0]


_ENVIRONMENT = re.compile(r"s3://[^/]+/.+-[0-9a-f]{64}\.tar\.gz|\$\{\w+\}")
_ARCHITECTURE = re.compile(r"-(x86_64|arm64)-[0-9a-f]{64}\.tar\.gz$")


def check_environment(uri: str) -> str:
    """An environment archive's URI, whose name must end in its SHA-256. Raises ConfigError."""
    if not _ENVIRONMENT.fullmatch(uri):
        raise ConfigError(
            "--environment names no packed environment",
            expected="s3://BUCKET/…-<SHA-256>.tar.gz, as build_env.sh named it",
            found=uri,
        )
    return uri


def check_architecture(uri: str, node: Instance) -> None:
    """Raise ConfigError if the archive's name says that it was built for other processors than a node's."""
    match = _ARCHITECTURE.search(uri)
    if match and match[1] != node.architecture:
        raise ConfigError(
            "--environment was built for other processors than the nodes have",
            expected=f"an archive for {node.architecture}, which {node.name} is",
            found=match[1],
            advice="Build it with `docker build --platform`, or choose another --core-type.",
        )
