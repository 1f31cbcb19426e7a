"""Instance types: what they hold, by a table that comes with slicemill or by EC2's own answer.

`instances.json` holds common types. Any other is read once from EC2 (`slicemill emr instances --type NAME`)
into a file of this user's, and from then on a shape can use it without a request.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal, TypeAlias

from slicemill.errors import ConfigError

Architecture: TypeAlias = Literal["x86_64", "arm64"]

#: Of a node's memory, what YARN hands out; the rest is the system's, the node manager's and HDFS's.
_YARN_SHARE = 0.75


@dataclass(frozen=True)
class Instance:
    """One EC2 instance type."""

    name: str
    vcpus: int
    memory_mib: int
    gpus: int = 0
    architecture: Architecture = "x86_64"

    @property
    def yarn_mib(self) -> int:
        """Memory for containers, in MiB. Set in yarn-site, so that it does not follow EMR's own tables."""
        return int(self.memory_mib * _YARN_SHARE)


def _parse(types: Mapping[str, Mapping[str, Any]]) -> dict[str, Instance]:
    return {name: Instance(name, **size) for name, size in types.items()}


@cache
def _packaged() -> dict[str, Instance]:
    return _parse(json.loads((files(__package__) / "instances.json").read_text("utf-8"))["types"])


def table_path() -> Path:
    """File of the types that this user has read from EC2."""
    cache_home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache_home) / "slicemill" / "instances.json"


def _own() -> dict[str, Instance]:
    path = table_path()
    if not path.exists():
        return {}
    try:
        return _parse(json.loads(path.read_text("utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise ConfigError(
            f"{path} is not a table of instance types",
            expected="JSON that `slicemill emr instances` wrote",
            found=f"{type(error).__name__}: {error}",
            advice="Remove it.",
        ) from error


def known_instances() -> dict[str, Instance]:
    """Every type whose size is at hand, by its name. Raises ConfigError for a broken table."""
    return _packaged() | _own()


def instance(name: str) -> Instance:
    """The instance type of this name. Raises ConfigError if its size is not at hand."""
    types = known_instances()
    if name not in types:
        family = name.partition(".")[0]
        near = sorted(other for other in types if other.partition(".")[0] == family)
        raise ConfigError(
            "the size of the instance type is not known",
            expected=", ".join(near) or f"one of {len(types)} types, such as m5.2xlarge",
            found=name,
            advice=f"`slicemill emr instances --type {name}` asks EC2.",
        )
    return types[name]


def from_description(description: Mapping[str, Any]) -> Instance:
    """An element of DescribeInstanceTypes' answer. Raises ConfigError for an architecture that EMR lacks."""
    architectures = description["ProcessorInfo"]["SupportedArchitectures"]
    architecture: Architecture | None = (
        "x86_64" if "x86_64" in architectures else "arm64" if "arm64" in architectures else None
    )
    if architecture is None:
        raise ConfigError(
            f"{description['InstanceType']} has no architecture of EMR's",
            expected="x86_64 or arm64",
            found=", ".join(architectures),
        )
    return Instance(
        description["InstanceType"],
        description["VCpuInfo"]["DefaultVCpus"],
        description["MemoryInfo"]["SizeInMiB"],
        sum(gpu["Count"] for gpu in description.get("GpuInfo", {}).get("Gpus", ())),
        architecture,
    )


def keep(types: Mapping[str, Instance]) -> Path:
    """Add types to this user's table and return its path."""
    path = table_path()
    path.parent.mkdir(parents=True, exist_ok=True)
    sizes = {name: {k: v for k, v in asdict(size).items() if k != "name"} for name, size in types.items()}
    rows = {name: {k: v for k, v in asdict(size).items() if k != "name"} for name, size in _own().items()}
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.write_text(json.dumps(rows | sizes, indent=2, sort_keys=True) + "\n", "utf-8")
    draft.replace(path)
    return path
