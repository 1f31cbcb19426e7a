"""Spark settings of each job on each shape: executors cut to fit the nodes, GPUs one by one.

Workers hold pixels and networks in Python, so the heap is small and the overhead is nearly all of a
container. Dynamic allocation is off: ranks must all start at once, and ingest and scoring cut their work by
the cores that are there when they begin.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

from slicemill.emr.capacity.shapes import Shape
from slicemill.errors import ConfigError

JobName: TypeAlias = Literal[
    "ingest",
    "split",
    "train",
    "score",
    "report",
    "crossval",
    "sweep",
    "committee",
    "compare",
    "associate",
    "forget",
]

#: Jobs that open a Spark session; the others are plain Python on the primary node.
SPARK_JOBS: tuple[JobName, ...] = ("ingest", "train", "score", "crossval", "sweep")
#: Jobs whose tasks are ranks: one a node or a GPU, all at once.
RANK_JOBS: tuple[JobName, ...] = ("train", "crossval", "sweep")

#: Where `environment.sh` unpacks the environment on every node.
HOME = "/opt/slicemill"

HEAP_MIB = 2048
#: Left free on each node for the application master: the driver in cluster mode, 1 GiB and its overhead.
MASTER_MIB = 1536
#: Memory that one Python worker may grow to, with room for the largest scan of its kind.
WORKER_MIB: Mapping[JobName, int] = {
    "ingest": 1024, "score": 2048, "train": 4096, "crossval": 4096, "sweep": 4096,
}  # fmt: skip
#: Cores of an executor where tasks take one core each.
_CORES = 4
_ROUND_MIB = 256

_NCCL = {
    # Every interface but loopback and Docker's: names of the real one differ between instance types.
    "spark.executorEnv.NCCL_SOCKET_IFNAME": "^lo,docker",
    "spark.executorEnv.NCCL_DEBUG": "WARN",
}


@dataclass(frozen=True)
class Executors:
    """How many executors of which size a job gets."""

    count: int
    cores: int
    task_cpus: int
    memory_mib: int
    overhead_mib: int
    gpus: int = 0

    @property
    def slots(self) -> int:
        """Tasks that run at once."""
        return self.count * (self.cores // self.task_cpus)


def executors(job: JobName, shape: Shape) -> Executors:
    """Executors of a job. Raises ConfigError if the shape is not for the job or its nodes are too small."""
    node = shape.core_instance
    if node.gpus and job == "ingest":
        raise ConfigError(
            "ingest on GPU nodes pays for GPUs that idle",
            expected="--shape cpu",
            found=f"--shape {shape.name}",
        )
    if node.gpus:
        # A core a GPU stays free: the node manager counts cores here, and the master needs one.
        each, cores = node.gpus, max(1, node.vcpus // node.gpus - 1)
        task_cpus = cores
    elif job in RANK_JOBS:
        each, cores = 1, node.vcpus
        task_cpus = cores
    else:
        each = max(1, node.vcpus // _CORES)
        cores, task_cpus = min(_CORES, node.vcpus), 1
    container = (node.yarn_mib - MASTER_MIB) // each // _ROUND_MIB * _ROUND_MIB
    executors = Executors(
        count=each * shape.executor_nodes,
        cores=cores,
        task_cpus=task_cpus,
        memory_mib=HEAP_MIB,
        overhead_mib=container - HEAP_MIB,
        gpus=1 if node.gpus else 0,
    )
    need = (cores // task_cpus) * WORKER_MIB[job]
    if executors.overhead_mib < need:
        raise ConfigError(
            f"{node.name} is too small for {job}",
            expected=f"{need} MiB for the Python workers of an executor",
            found=f"{executors.overhead_mib} MiB",
        )
    return executors


def common_settings(region: str) -> dict[str, str]:
    """What every job of a cluster shares; goes into its spark-defaults."""
    return {
        "spark.dynamicAllocation.enabled": "false",
        # Workers write their own objects: a second copy of a task would do the work twice for nothing.
        "spark.speculation": "false",
        # Work is cut by the cores that are there at the start, so wait for them all.
        "spark.scheduler.minRegisteredResourcesRatio": "1.0",
        "spark.scheduler.maxRegisteredResourcesWaitingTime": "300s",
        "spark.sql.execution.arrow.maxRecordsPerBatch": "64",
        # Retrying is the schedule's business, which counts and reports it.
        "spark.yarn.maxAppAttempts": "1",
        # boto3 in a container has no other way to know it.
        "spark.executorEnv.AWS_DEFAULT_REGION": region,
        "spark.yarn.appMasterEnv.AWS_DEFAULT_REGION": region,
    }


def job_settings(job: JobName, shape: Shape, home: str = HOME) -> dict[str, str]:
    """Spark settings of one job on a shape, its environment at `home`. Raises as `executors` does."""
    plan = executors(job, shape)
    settings = {
        "spark.executor.instances": str(plan.count),
        "spark.executor.cores": str(plan.cores),
        "spark.task.cpus": str(plan.task_cpus),
        "spark.executor.memory": f"{plan.memory_mib}m",
        "spark.executor.memoryOverhead": str(plan.overhead_mib),
    }
    if plan.gpus:
        settings |= gpu_settings(plan.gpus, home)
    if job in RANK_JOBS:
        settings |= {"spark.task.maxFailures": "1", **(_NCCL if plan.gpus else {})}
    check_settings(job, settings | {"spark.dynamicAllocation.enabled": "false"})
    return settings


def gpu_settings(gpus: int, home: str = HOME) -> dict[str, str]:
    """One executor's GPUs, all of them for one task."""
    return {
        "spark.executor.resource.gpu.amount": str(gpus),
        "spark.task.resource.gpu.amount": str(gpus),
        "spark.executor.resource.gpu.discoveryScript": f"{home}/{DISCOVERY}",
    }


#: Script of the environment by which an executor finds its GPUs: YARN does not tell Spark which it has.
DISCOVERY = "bin/discover_gpus.sh"


def check_settings(job: str, settings: Mapping[str, str]) -> None:
    """Refuse settings that a barrier job would hang or die on. Raises ConfigError naming the setting."""
    if job not in RANK_JOBS:
        return
    if settings.get("spark.dynamicAllocation.enabled", "true").lower() != "false":
        raise ConfigError(
            "spark.dynamicAllocation.enabled is not off, and ranks must all start at once",
            expected="false",
            found=settings.get("spark.dynamicAllocation.enabled", "EMR's default, true"),
        )
    for key in ("spark.task.resource.gpu.amount", "spark.executor.resource.gpu.amount"):
        if settings.get(key, "1") != "1":
            raise ConfigError(
                f"{key} is wrong, a rank takes one whole GPU", expected="1", found=settings[key]
            )
    if settings.get("spark.ssl.enabled", "false").lower() == "true":
        raise ConfigError(
            "spark.ssl.enabled is on, and ranks talk to each other unencrypted",
            expected="false",
            found="true",
        )
