"""EMR Serverless: an application, and a job run of each job that needs no GPU.

There are no GPUs, so that training belongs on a cluster. Each job's driver and executors run in the packed
environment, which Spark unpacks as `spark.archives`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from slicemill.emr.capacity.prices import Prices
from slicemill.emr.capacity.releases import DEFAULT_RELEASE, release
from slicemill.emr.requests.cluster import tags
from slicemill.emr.requests.job_settings import JobName, common_settings
from slicemill.emr.requests.steps import ARCHIVE_NAME, check_arguments
from slicemill.emr.site import Site, check_environment
from slicemill.errors import ConfigError

#: Jobs that run without a GPU and without ranks that must find each other.
SERVERLESS_JOBS: tuple[JobName, ...] = ("ingest", "split", "score", "report", "compare", "associate")

#: A worker's vCPUs and memory in GiB, a size that EMR Serverless offers, and what of it is the heap.
_VCPUS, _MEMORY_GIB, _HEAP_GIB = 4, 16, 2
_DISK_GIB = 100
#: Of a worker's memory, what Spark's heap and overhead may take together.
_OVERHEAD_GIB = _MEMORY_GIB - _HEAP_GIB


@dataclass(frozen=True)
class Application:
    """An application: where job runs get their workers from, and how many at most."""

    site: Site
    max_workers: int = 8
    release_label: str = DEFAULT_RELEASE
    allow_untried: bool = False
    idle_minutes: int = 15

    def __post_init__(self) -> None:
        release(self.release_label, allow_untried=self.allow_untried)
        if self.max_workers < 2:
            raise ConfigError(
                "--max-workers is out of range",
                expected="at least 2, a driver and one more",
                found=self.max_workers,
            )

    def request(self) -> dict[str, Any]:
        """Keyword arguments of boto3's `create_application` (service emr-serverless)."""
        return {
            "name": "slicemill",
            "releaseLabel": self.release_label,
            "type": "SPARK",
            "architecture": "X86_64",
            "maximumCapacity": {
                "cpu": f"{_VCPUS * self.max_workers} vCPU",
                "memory": f"{_MEMORY_GIB * self.max_workers} GB",
                "disk": f"{_DISK_GIB * self.max_workers} GB",
            },
            "autoStartConfiguration": {"enabled": True},
            "autoStopConfiguration": {"enabled": True, "idleTimeoutMinutes": self.idle_minutes},
            "tags": {tag["Key"]: tag["Value"] for tag in tags()},
        }


@dataclass(frozen=True)
class JobRun:
    """One job on an application."""

    site: Site
    application: str
    """Id of the application."""
    role: str
    """ARN of the job's role: output ServerlessRoleArn of the foundation stack."""
    environment: str
    """URI of the packed environment of CPU nodes."""
    job: JobName
    arguments: tuple[str, ...]
    token: str
    """Client token: a request that is sent twice starts one run."""
    workers: int = 4
    """Executors."""
    minutes: int = 480
    """Time after which the run is given up."""

    def __post_init__(self) -> None:
        check_environment(self.environment)
        if self.job not in SERVERLESS_JOBS:
            raise ConfigError(
                f"{self.job} trains, and EMR Serverless has no GPU and no ranks that find each other",
                expected=f"`slicemill emr submit`, or one of {', '.join(SERVERLESS_JOBS)}",
                found=self.job,
            )
        if self.workers < 1:
            raise ConfigError("--workers is out of range", expected="at least 1", found=self.workers)
        check_arguments(self.job, self.arguments)

    def settings(self) -> dict[str, str]:
        """Spark settings of the run; keys of executors' and the driver's environment are Serverless's own."""
        python = f"./{ARCHIVE_NAME}/bin/python"
        cluster_only = ("spark.yarn.", "spark.executorEnv.", "spark.scheduler.")
        common = {
            key: value
            for key, value in common_settings(self.site.region).items()
            if not key.startswith(cluster_only)
        }
        return {
            **common,
            "spark.archives": f"{self.environment}#{ARCHIVE_NAME}",
            "spark.emr-serverless.driverEnv.PYSPARK_DRIVER_PYTHON": python,
            "spark.emr-serverless.driverEnv.PYSPARK_PYTHON": python,
            "spark.executorEnv.PYSPARK_PYTHON": python,
            "spark.driver.cores": str(_VCPUS),
            "spark.driver.memory": f"{_HEAP_GIB}g",
            "spark.driver.memoryOverhead": f"{_OVERHEAD_GIB}g",
            "spark.executor.cores": str(_VCPUS),
            "spark.executor.memory": f"{_HEAP_GIB}g",
            "spark.executor.memoryOverhead": f"{_OVERHEAD_GIB}g",
            "spark.executor.instances": str(self.workers),
            "spark.emr-serverless.driver.disk": f"{_DISK_GIB}g",
            "spark.emr-serverless.executor.disk": f"{_DISK_GIB}g",
        }

    def request(self) -> dict[str, Any]:
        """Keyword arguments of boto3's `start_job_run` (service emr-serverless)."""
        return {
            "applicationId": self.application,
            "clientToken": self.token,
            "executionRoleArn": self.role,
            "name": f"slicemill {self.job}",
            "executionTimeoutMinutes": self.minutes,
            "jobDriver": {
                "sparkSubmit": {
                    "entryPoint": self.site.code("jobs", f"{self.job}.py"),
                    "entryPointArguments": list(self.arguments),
                    "sparkSubmitParameters": _parameters(self.settings()),
                }
            },
            "configurationOverrides": {
                "monitoringConfiguration": {
                    "s3MonitoringConfiguration": {
                        "logUri": f"s3://{self.site.log_bucket}/clusters/serverless/",
                        "encryptionKeyArn": self.site.key_arn,
                    }
                }
            },
            "tags": {tag["Key"]: tag["Value"] for tag in tags()},
        }

    def hourly_cost(self, prices: Prices) -> float | None:
        """Dollars an hour while the driver and all executors work; None without a price."""
        if prices.serverless_vcpu_hour is None or prices.serverless_gib_hour is None:
            return None
        worker = _VCPUS * prices.serverless_vcpu_hour + _MEMORY_GIB * prices.serverless_gib_hour
        return (self.workers + 1) * worker


def _parameters(settings: Mapping[str, str]) -> str:
    for key, value in settings.items():
        # They are one string, split at blanks.
        if any(character.isspace() for character in value):
            raise ConfigError(f"{key} has a blank", expected="a value without blanks", found=repr(value))
    return " ".join(f"--conf {key}={value}" for key, value in settings.items())
