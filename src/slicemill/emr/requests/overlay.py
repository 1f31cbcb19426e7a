"""A user's own fields over the request of a cluster: what RunJobFlow knows and slicemill has no option for.

Objects are merged, values and lists replaced; lists whose elements have a name are merged by it. What
other parts of slicemill rely on stays as it is, or the file is refused.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from slicemill.emr.requests.job_settings import JobName, check_settings
from slicemill.errors import ConfigError

Request = dict[str, Any]

#: Lists that are merged element by element, and the field that names an element.
_NAMES: Mapping[str, str] = {
    "Tags": "Key",
    "Configurations": "Classification",
    "Applications": "Name",
    "BootstrapActions": "Name",
}

#: Fields that stay as they are, and what sets them.
_SET_BY: Mapping[tuple[str, ...], str] = {
    ("ReleaseLabel",): "--release",
    ("Steps",): "--job and --argument",
    ("Instances", "InstanceGroups"): "--core-type and --core-count, which executors follow",
    ("Instances", "InstanceFleets"): "--core-type, --core-count and --spot-count, which executors follow",
    ("Instances", "KeepJobFlowAliveWhenNoSteps"): "--keep",
    ("JobFlowRole",): "the jobs, each of which may touch its own folders only",
    ("SecurityConfiguration",): "the foundation stack, which encrypts what nodes hold",
    ("LogUri",): "the foundation stack, whose roles may write nowhere else",
    ("LogEncryptionKmsKeyId",): "the foundation stack",
}


def read_overlay(path: str) -> Request:
    """The fields in a JSON or YAML file. Raises ConfigError if it holds no object."""
    try:
        overlay = yaml.safe_load(Path(path).read_text("utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise ConfigError(
            "--overlay can't be read",
            expected="a JSON or YAML file with fields of RunJobFlow",
            found=f"{type(error).__name__}: {error}",
        ) from error
    if not isinstance(overlay, dict):
        raise ConfigError(
            "--overlay is not an object",
            expected='fields of RunJobFlow, such as {"CustomAmiId": "ami-…"}',
            found=type(overlay).__name__,
        )
    return overlay


def apply_overlay(request: Request, overlay: Request, jobs: Sequence[JobName]) -> Request:
    """The request with a user's fields over it. Raises ConfigError for a field that must stay.

    `jobs`: what the cluster runs; ranks hang under some Spark settings.
    """
    outcome: Request = _merge(request, overlay)
    for path, option in _SET_BY.items():
        if _at(outcome, path) != _at(request, path):
            raise ConfigError(
                f"--overlay changes {'.'.join(path)}",
                expected=f"the value that was set by {option}",
                found=json.dumps(_at(overlay, path)),
            )
    for name, key in (("Tags", "Key"), ("BootstrapActions", "Name")):
        absent = [row[key] for row in request[name] if row not in outcome[name]]
        if absent:
            raise ConfigError(
                f"--overlay changes {name} of slicemill's own",
                expected=f"further {name} only: roles, costs and nodes go by these",
                found=", ".join(absent),
            )
    for job in jobs:
        check_settings(job, _spark_defaults(outcome))
    return outcome


def _merge(base: Any, over: Any, field: str = "") -> Any:
    if isinstance(base, dict) and isinstance(over, dict):
        return base | {key: _merge(base.get(key), value, key) for key, value in over.items()}
    name = _NAMES.get(field)
    if name and isinstance(base, list) and isinstance(over, list):
        elements = {element.get(name): element for element in base}
        for element in over:
            elements[element.get(name)] = _merge(elements.get(element.get(name)), element)
        return list(elements.values())
    return over


def _at(request: Any, path: Sequence[str]) -> Any:
    for field in path:
        request = request.get(field) if isinstance(request, dict) else None
    return request


def _spark_defaults(request: Request) -> dict[str, str]:
    rows = [row for row in request["Configurations"] if row.get("Classification") == "spark-defaults"]
    return {key: value for row in rows for key, value in row.get("Properties", {}).items()}
