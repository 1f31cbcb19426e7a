"""What `slicemill emr submit` sends: a request, checked against the site and the running cluster."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from slicemill.emr.answers import ClusterState
from slicemill.emr.capacity.prices import Prices, read_prices
from slicemill.emr.capacity.shapes import Shape, shape
from slicemill.emr.client import Request
from slicemill.emr.config import ServerlessConfig, SubmitConfig
from slicemill.emr.requests.cluster import Cluster, profile_for, shape_of
from slicemill.emr.requests.job_settings import SPARK_JOBS
from slicemill.emr.requests.overlay import apply_overlay, read_overlay
from slicemill.emr.requests.serverless import Application, JobRun
from slicemill.emr.requests.steps import Step, extra_arguments, job_arguments, requests
from slicemill.emr.site import Site, read_site, saved_environment
from slicemill.errors import ConfigError

_KIND = re.compile(r"-(cpu|gpu)-(?:\w+-)?[0-9a-f]{64}\.tar\.gz$")


@dataclass(frozen=True)
class Submission:
    """A request of EMR, the region that it goes to, and what the cluster costs an hour by which prices."""

    operation: str
    arguments: Mapping[str, Any]
    region: str
    dollars_an_hour: float | None
    prices: str


def plan_submission(config: SubmitConfig, running: ClusterState | None = None) -> Submission:
    """The submission that a user asked for. Raises ConfigError.

    `running`: a cluster that gets the steps; its own nodes then decide the sizes of executors. None for a new
    cluster, and in a dry run.
    """
    site = read_site(config.site)
    nodes = shape(config.shape, config.core_type, config.core_count, config.spot_count)
    if running is not None:
        nodes = _running_shape(config, running, site, nodes)
    environment = config.environment or saved_environment(config.site, gpu=nodes.has_gpus)
    _check_archive(environment, site, nodes)
    steps = _steps(config, site, nodes, environment)
    prices = read_prices(config.prices)
    cost = nodes.hourly_cost(prices)
    if config.cluster:
        body = {"JobFlowId": config.cluster, "Steps": requests(steps, site, nodes, "CANCEL_AND_WAIT")}
        return Submission("add_job_flow_steps", body, site.region, cost, prices.source)
    cluster = Cluster(
        f"slicemill {' '.join(config.job) or nodes.name}",
        site,
        nodes,
        environment,
        steps,
        config.keep,
        config.release,
        subnets=config.subnet,
        allow_untried=config.allow_untried,
    )
    request = cluster.request()
    if config.overlay:
        request = apply_overlay(request, read_overlay(config.overlay), config.job)
    return Submission("run_job_flow", request, site.region, cost, prices.source)


def _steps(config: SubmitConfig, site: Site, nodes: Shape, environment: str) -> tuple[Step, ...]:
    extra = extra_arguments(config.argument, config.job)
    return tuple(
        Step(
            job,
            job_arguments(job, site, nodes, config.run, config.split) + extra[job],
            config.deploy_mode if job in SPARK_JOBS else "client",
            environment if config.archive and job in SPARK_JOBS else None,
        )
        for job in config.job
    )


def _check_archive(uri: str, site: Site, nodes: Shape) -> None:
    """Refuse an archive that nodes may not read, or that is for other nodes."""
    if not uri.startswith((site.code(), "${")):
        raise ConfigError(
            "nodes may not read this bucket", expected=f"--environment below {site.code()}", found=uri
        )
    kind = _KIND.search(uri)
    if kind and (kind[1] == "gpu") != nodes.has_gpus:
        raise ConfigError(
            "--environment is for other nodes",
            expected="the gpu archive" if nodes.has_gpus else "the cpu archive",
            found=f"the {kind[1]} archive on --shape {nodes.name}",
        )


def _running_shape(config: SubmitConfig, cluster: ClusterState, site: Site, nodes: Shape) -> Shape:
    """The nodes of a running cluster. Raises ConfigError if it has ended or its role is not for the jobs."""
    if cluster.has_ended:
        raise ConfigError(
            f"{config.cluster} takes no more steps",
            expected="a cluster that runs or waits",
            found=cluster.state,
        )
    shape_then = shape_of(cluster.tags) or nodes
    expected = profile_for(site, shape_then, config.job)
    if cluster.profile and cluster.profile != expected:
        raise ConfigError(
            f"the role of {config.cluster} may not do what {', '.join(config.job)} does",
            expected=f"a cluster whose instance profile is {expected}",
            found=cluster.profile,
            advice="Leave --cluster out to start one.",
        )
    return shape_then


def plan_serverless(
    config: ServerlessConfig, site: Site, prices: Prices, token: str
) -> tuple[list[Request], float | None]:
    """Requests of EMR Serverless, and what all their workers cost an hour. Raises ConfigError.

    `token`: text of this call's own, by which a request that is sent twice starts one run.
    """
    environment = config.environment or saved_environment(config.site, gpu=False)
    nodes = shape("cpu")
    _check_archive(environment, site, nodes)
    if not config.application:
        application = Application(
            site, config.workers + 1, config.release, allow_untried=config.allow_untried
        )
        return [("create_application", application.request() | {"clientToken": token})], None
    if not site.serverless_role_arn:
        raise ConfigError(
            "--site knows no role for EMR Serverless",
            expected="the output ServerlessRoleArn",
            found="none",
            advice="Deploy the foundation stack of this release again.",
        )
    extra = extra_arguments(config.argument, config.job)
    runs = [
        JobRun(
            site,
            config.application,
            site.serverless_role_arn,
            environment,
            job,
            job_arguments(job, site, nodes, config.run, config.split) + extra[job],
            f"{token}-{job}",
            config.workers,
        )
        for job in config.job
    ]
    costs = [run.hourly_cost(prices) for run in runs]
    total = None if None in costs else sum(cost for cost in costs if cost is not None)
    return [("start_job_run", run.request()) for run in runs], total
