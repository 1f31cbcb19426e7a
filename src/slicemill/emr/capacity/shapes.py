"""Three shapes of cluster: CPU for ingest and scoring, GPU for training, one for people with notebooks."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

from slicemill.emr.capacity.instances import Instance, Prices, instance
from slicemill.errors import ConfigError

ShapeName: TypeAlias = Literal["cpu", "gpu", "notebook"]


@dataclass(frozen=True)
class Shape:
    """Nodes and applications of a cluster. The primary node runs no executors."""

    name: ShapeName
    primary: str
    """Instance type of the primary node."""
    core: str
    """Instance type of every core node."""
    core_count: int
    volume_gib: int
    """Size of each core node's data volume: shuffles, HDFS, the unpacked environment."""
    root_gib: int
    applications: tuple[str, ...]
    idle_seconds: int
    """Idle time after which the cluster ends by itself."""

    def __post_init__(self) -> None:
        instance(self.primary)
        if self.core_count < 1:
            raise ConfigError("--core-count is out of range", expected="at least 1", found=self.core_count)
        if bool(instance(self.core).gpus) != self.has_gpus:
            raise ConfigError(
                f"--core-type does not fit the {self.name} shape",
                expected="a type with GPUs" if self.has_gpus else "a type without GPUs",
                found=self.core,
            )
        if not 60 <= self.idle_seconds <= 604_800:
            raise ConfigError(
                "idle time is out of range", expected="60 to 604800 seconds", found=self.idle_seconds
            )

    @property
    def has_gpus(self) -> bool:
        """Whether core nodes schedule GPUs."""
        return self.name == "gpu"

    @property
    def core_instance(self) -> Instance:
        """What a core node holds."""
        return instance(self.core)

    def hourly_cost(self, prices: Prices) -> float:
        """Dollars an hour of the whole cluster, volumes included."""
        primary = prices.node_hour(self.primary, self.root_gib + self.volume_gib)
        return primary + self.core_count * prices.node_hour(self.core, self.root_gib + self.volume_gib)


_SPARK = ("Spark",)

SHAPES: dict[ShapeName, Shape] = {
    shape.name: shape
    for shape in (
        Shape("cpu", "m5.xlarge", "m5.2xlarge", 2, 100, 50, _SPARK, 1800),
        Shape("gpu", "m5.xlarge", "g5.2xlarge", 2, 200, 50, _SPARK, 1800),
        Shape(
            "notebook", "m5.xlarge", "m5.2xlarge", 2, 100, 50,
            ("Spark", "Livy", "JupyterEnterpriseGateway"), 7200,
        ),
    )
}  # fmt: skip


def shape(name: ShapeName, core_type: str | None = None, core_count: int | None = None) -> Shape:
    """A shape, with other core nodes if asked. Raises ConfigError if they do not fit it."""
    found = SHAPES[name]
    return replace(
        found, core=core_type or found.core, core_count=found.core_count if core_count is None else core_count
    )
