"""What a user can set for EMR, one frozen dataclass per subcommand; a line under each field is its help.

Here are the subcommands that ask for work; those that look after the account are in `account_config`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, TypeAlias

import tyro

from slicemill.emr.account_config import (
    SITE_FILE,
    InstancesConfig,
    ListConfig,
    LogsConfig,
    PackageConfig,
    ReleaseNetworkConfig,
    StatusConfig,
    TerminateConfig,
    UploadConfig,
)
from slicemill.emr.capacity.releases import DEFAULT_RELEASE
from slicemill.emr.capacity.shapes import ShapeName
from slicemill.emr.requests.job_settings import JobName
from slicemill.emr.requests.notebooks import NotebookName
from slicemill.emr.requests.steps import DeployMode
from slicemill.errors import ConfigError


@dataclass(frozen=True)
class RenderConfig:
    """Write every request, configuration and template as files, for one account."""

    site: str
    """JSON file with the foundation stack's outputs."""
    environment: str
    """s3:// URI of the packed environment of CPU nodes."""
    gpu_environment: str
    """s3:// URI of the packed environment of GPU nodes."""
    out: str
    """Folder for the files."""
    release: str = DEFAULT_RELEASE
    """EMR release label."""
    night_core_type: tuple[str, ...] = ()
    """Instance type of the nightly run's core nodes. Repeat the flag for a fleet of several types."""
    night_core_count: int | None = None
    """Core nodes of the nightly run."""
    night_spot_count: int = 0
    """Further nodes of the nightly run, on the Spot market."""
    prices: str | None = None
    """Price file; the one that comes with slicemill by default."""


@dataclass(frozen=True)
class SubmitConfig:
    """Start a cluster for some jobs, or give a running one more of them."""

    site: str = SITE_FILE
    """JSON file with the foundation stack's outputs."""
    environment: str | None = None
    """s3:// URI of the packed environment; the one that `slicemill emr upload` wrote last by default."""
    shape: ShapeName = "cpu"
    """cpu for ingest, split, score and report; gpu for train and score; notebook for people."""
    job: tuple[JobName, ...] = ()
    """Job to run. Repeat the flag for several, in their order."""
    argument: tuple[str, ...] = ()
    """Argument of a job as JOB.FLAG=VALUE, such as train.epochs=40. Repeat the flag for several."""
    run: str = "first"
    """Name of the training run: written by train, read by score and report."""
    split: str = "first"
    """Name of the split: written by split, read by train."""
    cluster: str | None = None
    """Id of a running cluster that gets the jobs as further steps, instead of a new cluster."""
    keep: bool = False
    """Keep the cluster when its steps are done, until it was idle for a while."""
    core_type: tuple[str, ...] = ()
    """Instance type of core nodes; the shape's by default. Repeat the flag for a fleet of several types."""
    core_count: int | None = None
    """Core nodes; the shape's number by default."""
    spot_count: int = 0
    """Further nodes on the Spot market, for the cpu shape. Losing one costs time, never results."""
    subnet: tuple[str, ...] = ()
    """Subnet id, instead of the foundation's. Repeat the flag to let a fleet choose."""
    allow_untried: bool = False
    """Take a release whose Spark line slicemill was never tested on."""
    release: str = DEFAULT_RELEASE
    """EMR release label."""
    deploy_mode: DeployMode = "client"
    """client: the driver is on the primary node and its output in the step's log; cluster: in a container."""
    archive: bool = False
    """Let YARN unpack the environment for each job, on clusters that were started without it."""
    overlay: str | None = None
    """JSON or YAML file with further fields of RunJobFlow, merged over the request of a new cluster."""
    wait: bool = False
    """Follow the steps to their end: the last line and the exit code are those of the last job."""
    prices: str | None = None
    """Price file of the cost estimate; the one that comes with slicemill by default."""
    dry_run: bool = False
    """Print the exact request and send nothing."""

    def __post_init__(self) -> None:
        _plain(run=self.run, split=self.split)
        if self.cluster and not self.job:
            raise ConfigError("there is nothing to submit", expected="at least one --job", found="none")
        if self.cluster and self.keep:
            raise ConfigError("--keep is for a new cluster", expected="--keep or --cluster", found="both")
        if self.cluster and (self.core_type or self.core_count or self.spot_count or self.subnet):
            raise ConfigError(
                "a running cluster has its nodes already",
                expected="--cluster without --core-type, --core-count, --spot-count and --subnet",
                found="both",
            )
        if self.cluster and self.overlay:
            raise ConfigError(
                "--overlay is for a new cluster", expected="--overlay or --cluster", found="both"
            )
        if self.wait and not self.job:
            raise ConfigError("--wait has nothing to wait for", expected="at least one --job", found="none")


@dataclass(frozen=True)
class NotebookConfig:
    """Run a notebook of a Workspace on a notebook cluster, from its first cell to its last."""

    site: str
    """JSON file with the foundation stack's outputs."""
    notebook: NotebookName
    """File of notebooks/, less its ending."""
    cluster: str
    """Id of a running cluster of the notebook shape."""
    editor: str
    """Id of the Workspace that holds the notebook."""
    service_role: str
    """Name or ARN of the studio's role: output StudioRole of the studio stack."""
    run: str = "first"
    """Name of the training run that it shows or scores with."""
    split: str = "first"
    """Name of the split."""
    dry_run: bool = False
    """Print the exact request and send nothing."""

    def __post_init__(self) -> None:
        _plain(run=self.run, split=self.split)


@dataclass(frozen=True)
class ServerlessConfig:
    """Run jobs that need no GPU on EMR Serverless; without --application the request makes one."""

    site: str = SITE_FILE
    """JSON file with the foundation stack's outputs."""
    environment: str | None = None
    """s3:// URI of the packed environment; the one that `slicemill emr upload` wrote last by default."""
    application: str | None = None
    """Id of an application of EMR Serverless."""
    job: tuple[JobName, ...] = ()
    """Job to run. Repeat the flag for several, which start at once: none may need what another writes."""
    argument: tuple[str, ...] = ()
    """Argument of a job as JOB.FLAG=VALUE, such as score.batch-size=8. Repeat the flag for several."""
    run: str = "first"
    """Name of the training run that scores and reports are of."""
    split: str = "first"
    """Name of the split: written by split."""
    workers: int = 4
    """Executors of each job; of a new application the most that work at once, with a driver."""
    release: str = DEFAULT_RELEASE
    """EMR release label of a new application."""
    allow_untried: bool = False
    """Take a release whose Spark line slicemill was never tested on."""
    prices: str | None = None
    """Price file of the cost estimate; the one that comes with slicemill by default."""
    dry_run: bool = False
    """Print the exact requests and send nothing."""

    def __post_init__(self) -> None:
        _plain(run=self.run, split=self.split)
        if bool(self.application) != bool(self.job):
            raise ConfigError(
                "jobs run on an application",
                expected="--application with --job, or neither to make an application",
                found="--application" if self.application else "--job",
            )


def _plain(**names: str) -> None:
    for flag, name in names.items():
        if not name or any(mark in name for mark in "/\\. "):
            raise ConfigError(
                f"--{flag} is not a plain name", expected="letters, digits, - and _", found=repr(name)
            )


Command: TypeAlias = (
    Annotated[RenderConfig, tyro.conf.subcommand("render", prefix_name=False)]
    | Annotated[SubmitConfig, tyro.conf.subcommand("submit", prefix_name=False)]
    | Annotated[NotebookConfig, tyro.conf.subcommand("notebook", prefix_name=False)]
    | Annotated[ServerlessConfig, tyro.conf.subcommand("serverless", prefix_name=False)]
    | Annotated[PackageConfig, tyro.conf.subcommand("package", prefix_name=False)]
    | Annotated[UploadConfig, tyro.conf.subcommand("upload", prefix_name=False)]
    | Annotated[ListConfig, tyro.conf.subcommand("list", prefix_name=False)]
    | Annotated[InstancesConfig, tyro.conf.subcommand("instances", prefix_name=False)]
    | Annotated[ReleaseNetworkConfig, tyro.conf.subcommand("release-network", prefix_name=False)]
    | Annotated[StatusConfig, tyro.conf.subcommand("status", prefix_name=False)]
    | Annotated[LogsConfig, tyro.conf.subcommand("logs", prefix_name=False)]
    | Annotated[TerminateConfig, tyro.conf.subcommand("terminate", prefix_name=False)]
)


@dataclass(frozen=True)
class EmrConfig:
    """Clusters and schedules on EMR: render, submit, notebook, list, status, logs, terminate and more."""

    command: Annotated[Command, tyro.conf.arg(name="")]
    """What to do."""
