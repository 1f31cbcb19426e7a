"""Three shapes of cluster: CPU for ingest and scoring, GPU for training, one for people with notebooks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

from slicemill.emr.capacity.instances import Instance, instance
from slicemill.emr.capacity.prices import Prices
from slicemill.errors import ConfigError

ShapeName: TypeAlias = Literal["cpu", "gpu", "notebook"]

#: Types of one fleet, as RunJobFlow takes them without an allocation strategy of its own.
_FLEET_TYPES = 5


@dataclass(frozen=True)
class Shape:
    """Nodes and applications of a cluster. The primary node runs no executors."""

    name: ShapeName
    primary: str
    """Instance type of the primary node."""
    core_types: tuple[str, ...]
    """Instance types of core nodes, the first one preferred. Executors fit the smallest of them."""
    core_count: int
    volume_gib: int
    """Size of each core node's data volume: shuffles, HDFS, the unpacked environment."""
    root_gib: int
    applications: tuple[str, ...]
    idle_seconds: int
    """Idle time after which the cluster ends by itself. Only YARN's applications count as work."""
    spot_count: int = 0
    """Task nodes on the Spot market, of the same types, beside the core nodes."""

    def __post_init__(self) -> None:
        instance(self.primary)
        if self.core_count < 1:
            raise ConfigError("--core-count is out of range", expected="at least 1", found=self.core_count)
        if not 1 <= len(self.core_types) <= _FLEET_TYPES:
            raise ConfigError(
                "a fleet takes another number of --core-type",
                expected=f"1 to {_FLEET_TYPES}",
                found=len(self.core_types),
            )
        if self.spot_count < 0 or (self.spot_count and self.name != "cpu"):
            raise ConfigError(
                "--spot-count is for the cpu shape: a lost node would end every rank, or a person's session",
                expected="0 or more, on --shape cpu",
                found=f"{self.spot_count} on --shape {self.name}",
            )
        if not 60 <= self.idle_seconds <= 604_800:
            raise ConfigError(
                "idle time is out of range", expected="60 to 604800 seconds", found=self.idle_seconds
            )
        self._check_core_types()

    def _check_core_types(self) -> None:
        for name in self.core_types:
            if bool(instance(name).gpus) != self.has_gpus:
                raise ConfigError(
                    f"--core-type does not fit the {self.name} shape",
                    expected="a type with GPUs" if self.has_gpus else "a type without GPUs",
                    found=name,
                )
        nodes = [instance(name) for name in (self.primary, *self.core_types)]
        if len({node.architecture for node in nodes}) > 1:
            raise ConfigError(
                "a cluster's nodes share one environment, so they have one architecture",
                expected=nodes[1].architecture,
                found=f"{self.primary} is {nodes[0].architecture}",
            )
        if len({instance(name).gpus for name in self.core_types}) > 1:
            raise ConfigError(
                "nodes of one fleet have as many GPUs each",
                expected="types with equal numbers of GPUs",
                found=", ".join(f"{name}: {instance(name).gpus}" for name in self.core_types),
            )

    @property
    def has_gpus(self) -> bool:
        """Whether core nodes schedule GPUs."""
        return self.name == "gpu"

    @property
    def is_fleet(self) -> bool:
        """Whether core nodes are of several types, or task nodes are on the Spot market."""
        return len(self.core_types) > 1 or self.spot_count > 0

    @property
    def executor_nodes(self) -> int:
        """Nodes that run executors."""
        return self.core_count + self.spot_count

    @property
    def core_instance(self) -> Instance:
        """What every core node holds at least."""
        nodes = [instance(name) for name in self.core_types]
        return Instance(
            self.core_types[0],
            min(node.vcpus for node in nodes),
            min(node.memory_mib for node in nodes),
            nodes[0].gpus,
            nodes[0].architecture,
        )

    def hourly_cost(self, prices: Prices) -> float | None:
        """Dollars an hour of the cluster, all on demand and of its first types; None without a price."""
        gib = self.root_gib + self.volume_gib
        primary, core = prices.node_hour(self.primary, gib), prices.node_hour(self.core_types[0], gib)
        return None if primary is None or core is None else primary + self.executor_nodes * core


_SPARK = ("Spark",)
_STUDIO = ("Spark", "Livy", "JupyterEnterpriseGateway")

#: Outlasts the longest step of plain Python, which YARN does not see: `NIGHT` gives the report an hour.
_IDLE_SECONDS = 5_400

SHAPES: dict[ShapeName, Shape] = {
    shape.name: shape
    for shape in (
        Shape("cpu", "m5.xlarge", ("m5.2xlarge",), 2, 100, 50, _SPARK, _IDLE_SECONDS),
        Shape("gpu", "m5.xlarge", ("g5.2xlarge",), 2, 200, 50, _SPARK, _IDLE_SECONDS),
        Shape("notebook", "m5.xlarge", ("m5.2xlarge",), 2, 100, 50, _STUDIO, 7_200),
    )
}

#: Primary nodes where core nodes are arm64.
_ARM_PRIMARY = "m6g.xlarge"


def shape(
    name: ShapeName, core_types: Sequence[str] = (), core_count: int | None = None, spot_count: int = 0
) -> Shape:
    """A shape, with other nodes if asked for. Raises ConfigError if they do not fit it."""
    base = SHAPES[name]
    types = tuple(core_types) or base.core_types
    return replace(
        base,
        primary=_ARM_PRIMARY if instance(types[0]).architecture == "arm64" else base.primary,
        core_types=types,
        core_count=base.core_count if core_count is None else core_count,
        spot_count=spot_count,
    )
