"""Application configurations of a cluster (EMR's classifications), by shape."""

from __future__ import annotations

from typing import Any

from slicemill.emr.capacity.shapes import Shape
from slicemill.emr.requests.job_settings import common_settings
from slicemill.emr.requests.steps import PYTHON
from slicemill.emr.site import Site

Classification = dict[str, Any]

#: A mount of its own: AL2023 has version 2 of cgroups, and YARN isolates GPUs by version 1.
CGROUP_ROOT = "/slicemill-cgroup"


def configurations(shape: Shape, site: Site) -> list[Classification]:
    """Classifications in the form that the CLI, boto3 and Step Functions share."""
    settings = [
        _of("spark-defaults", {**_defaults(shape, site), "spark.pyspark.python": PYTHON}),
        # The system's python3 is 3.9, which PySpark 4 does not run on.
        _of("spark-env", {}, _of("export", {"PYSPARK_PYTHON": PYTHON, "AWS_DEFAULT_REGION": site.region})),
        _of("yarn-site", {**_yarn_memory(shape), **(_YARN_GPU if shape.has_gpus else {})}),
    ]
    return [*settings, *_gpu_isolation()] if shape.has_gpus else settings


def _of(name: str, properties: dict[str, str], *nested: Classification) -> Classification:
    return {
        "Classification": name,
        "Properties": properties,
        **({"Configurations": list(nested)} if nested else {}),
    }


def _defaults(shape: Shape, site: Site) -> dict[str, str]:
    settings = common_settings(site.region)
    if shape.name == "notebook":
        # People leave sessions open: give back what they do not use. Training asks for it to be off.
        settings |= {
            "spark.dynamicAllocation.enabled": "true",
            "spark.scheduler.minRegisteredResourcesRatio": "0",
        }
    return settings


def _yarn_memory(shape: Shape) -> dict[str, str]:
    node = shape.core_instance
    return {
        "yarn.nodemanager.resource.memory-mb": str(node.yarn_mib),
        "yarn.nodemanager.resource.cpu-vcores": str(node.vcpus),
        "yarn.scheduler.maximum-allocation-mb": str(node.yarn_mib),
        "yarn.scheduler.maximum-allocation-vcores": str(node.vcpus),
    }


_YARN_GPU = {
    "yarn.resource-types": "yarn.io/gpu",
    "yarn.nodemanager.resource-plugins": "yarn.io/gpu",
    "yarn.nodemanager.resource-plugins.gpu.allowed-gpu-devices": "auto",
    "yarn.nodemanager.resource-plugins.gpu.path-to-discovery-executables": "/usr/bin",
    "yarn.nodemanager.linux-container-executor.cgroups.mount": "true",
    "yarn.nodemanager.linux-container-executor.cgroups.mount-path": CGROUP_ROOT,
    "yarn.nodemanager.linux-container-executor.cgroups.hierarchy": "yarn",
    "yarn.nodemanager.container-executor.class": (
        "org.apache.hadoop.yarn.server.nodemanager.LinuxContainerExecutor"
    ),
}


def _gpu_isolation() -> list[Classification]:
    return [
        _of(
            "container-executor",
            {},
            _of("gpu", {"module.enabled": "true"}),
            _of("cgroups", {"root": CGROUP_ROOT, "yarn-hierarchy": "yarn"}),
        ),
        _of(
            "capacity-scheduler",
            {
                "yarn.scheduler.capacity.resource-calculator": (
                    "org.apache.hadoop.yarn.util.resource.DominantResourceCalculator"
                )
            },
        ),
    ]
