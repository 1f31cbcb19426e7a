"""Instance types that shapes use: what they hold, and what they cost by a price file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from slicemill.errors import ConfigError

#: Hours of a month by which AWS charges volumes.
_HOURS_A_MONTH = 730
#: Of a node's memory, what YARN hands out; the rest is the system's, the node manager's and HDFS's.
_YARN_SHARE = 0.75


@dataclass(frozen=True)
class Instance:
    """One EC2 instance type."""

    name: str
    vcpus: int
    memory_gib: int
    gpus: int = 0

    @property
    def yarn_mib(self) -> int:
        """Memory for containers, in MiB. Set in yarn-site, so that it does not follow EMR's own tables."""
        return int(self.memory_gib * 1024 * _YARN_SHARE)


INSTANCES = {
    instance.name: instance
    for instance in (
        Instance("m5.xlarge", 4, 16),
        Instance("m5.2xlarge", 8, 32),
        Instance("m5.4xlarge", 16, 64),
        Instance("r5.2xlarge", 8, 64),
        Instance("g4dn.2xlarge", 8, 32, gpus=1),
        Instance("g5.2xlarge", 8, 32, gpus=1),
        Instance("g5.4xlarge", 16, 64, gpus=1),
        Instance("g5.12xlarge", 48, 192, gpus=4),
    )
}


def instance(name: str) -> Instance:
    """The instance type of this name. Raises ConfigError for one whose size is not known here."""
    if name not in INSTANCES:
        raise ConfigError(
            "instance type is unknown",
            expected=", ".join(INSTANCES),
            found=name,
            advice="Add its size to slicemill.emr.capacity.instances.",
        )
    return INSTANCES[name]


@dataclass(frozen=True)
class Prices:
    """Hourly list prices of one region in US dollars."""

    region: str
    source: str
    ec2: Mapping[str, float]
    emr: Mapping[str, float]
    gp3_gib_month: float

    def node_hour(self, name: str, gib: int) -> float:
        """Dollars an hour of one node of a type, its EMR charge and `gib` of volumes included.

        Raises ConfigError if the price file does not know the type.
        """
        if name not in self.ec2 or name not in self.emr:
            raise ConfigError(
                f"the price file knows no {name}", expected="its ec2 and its emr price", found="none"
            )
        return self.ec2[name] + self.emr[name] + gib * self.gp3_gib_month / _HOURS_A_MONTH


def read_prices(path: str | None = None) -> Prices:
    """Prices from a file, the one that comes with slicemill by default. Raises ConfigError."""
    text = ""
    try:
        text = (
            Path(path).read_text("utf-8") if path else (files(__package__) / "prices.json").read_text("utf-8")
        )
        table: dict[str, Any] = json.loads(text)
        return Prices(**{name: table[name] for name in Prices.__dataclass_fields__})
    except (OSError, ValueError, KeyError) as error:
        raise ConfigError(
            "--prices can't be read",
            expected=f"JSON with {', '.join(Prices.__dataclass_fields__)}",
            found=f"{type(error).__name__}: {error}",
        ) from error
