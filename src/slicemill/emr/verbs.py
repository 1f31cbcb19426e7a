"""What each subcommand of `slicemill emr` does."""

from __future__ import annotations

import json
import re
import shlex
import sys
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from slicemill.emr import client
from slicemill.emr.account_config import (
    InstancesConfig,
    ListConfig,
    LogsConfig,
    PackageConfig,
    ReleaseNetworkConfig,
    StatusConfig,
    TerminateConfig,
    UploadConfig,
)
from slicemill.emr.answers import ClusterState
from slicemill.emr.building import build, build_commands
from slicemill.emr.capacity.instances import from_description, keep
from slicemill.emr.capacity.prices import read_prices
from slicemill.emr.capacity.shapes import shape
from slicemill.emr.client import Request
from slicemill.emr.config import EmrConfig, NotebookConfig, RenderConfig, ServerlessConfig, SubmitConfig
from slicemill.emr.network import endpoints_of, leftovers, questions, removals
from slicemill.emr.render import Choice, rendered
from slicemill.emr.requests.notebooks import NotebookRun
from slicemill.emr.site import read_site, site_rows
from slicemill.emr.submission import plan_serverless, plan_submission
from slicemill.emr.upload import read_archive, uploads, with_environments
from slicemill.emr.waiting import follow, job_summary

Summary = dict[str, Any]


def run(config: EmrConfig) -> Summary:
    """Do what was asked and return the summary. Raises ConfigError, InputError or MachineError."""
    command = config.command
    actions: Mapping[type[Any], Callable[[Any], Summary]] = {
        RenderConfig: _render,
        SubmitConfig: _submit,
        NotebookConfig: _notebook,
        ServerlessConfig: _serverless,
        PackageConfig: _package,
        UploadConfig: _upload,
        ListConfig: _list,
        InstancesConfig: _instances,
        ReleaseNetworkConfig: _release_network,
        StatusConfig: _status,
        LogsConfig: _logs,
        TerminateConfig: _terminate,
    }
    name = type(command).__name__.removesuffix("Config")
    verb = re.sub(r"(?<!^)(?=[A-Z])", "-", name).lower()
    return {"job": f"emr {verb}", "status": "done", **actions[type(command)](command)}


def _render(config: RenderConfig) -> Summary:
    night = shape("cpu", config.night_core_type, config.night_core_count, config.night_spot_count)
    site = read_site(config.site)
    choice = Choice(site, config.environment, config.gpu_environment, config.release, night)
    files = rendered(choice, read_prices(config.prices))
    for name, text in files.items():
        target = Path(config.out) / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, "utf-8")
    return {"files": len(files), "out": config.out}


def _submit(config: SubmitConfig) -> Summary:
    region = read_site(config.site).region
    asks = bool(config.cluster) and not config.dry_run
    plan = plan_submission(config, client.cluster(config.cluster or "", region) if asks else None)
    if config.overlay:
        client.check((plan.operation, plan.arguments))
    cost: Summary = {
        "dollars_an_hour": None if plan.dollars_an_hour is None else round(plan.dollars_an_hour, 3),
        "prices": plan.prices,
    }
    if config.dry_run:
        return cost | _shown((plan.operation, plan.arguments))
    answer = client.call((plan.operation, plan.arguments), region)
    cluster = config.cluster or answer["JobFlowId"]
    summary = cost | {"cluster": cluster, "steps": answer.get("StepIds", [])}
    return summary | _wait(cluster, answer.get("StepIds", ()), config) if config.wait else summary


def _wait(cluster: str, ids: Sequence[str], config: SubmitConfig) -> Summary:
    site = read_site(config.site)
    steps = follow(cluster, ids, site, _say, time.sleep)
    failed = [step.id for step in steps if step.has_failed]
    summary = dict(job_summary(cluster, [*failed, steps[-1].id][0], site, time.sleep) or {})
    status = summary.get("status", "failed" if failed else "done")
    ending: Summary = {"status": "failed" if failed and status == "done" else status, "summary": summary}
    if failed:
        ending |= {"error": summary.get("error", f"steps that failed: {', '.join(failed)}")}
    return ending


def _notebook(config: NotebookConfig) -> Summary:
    site = read_site(config.site)
    notebook = NotebookRun(
        site, config.notebook, config.editor, config.cluster, config.service_role, config.run, config.split
    )
    request = ("start_notebook_execution", notebook.request())
    if config.dry_run:
        return _shown(request)
    return {"execution": client.call(request, site.region)["NotebookExecutionId"]}


def _region(site: str | None) -> str | None:
    return read_site(site).region if site else None


def _serverless(config: ServerlessConfig) -> Summary:
    site = read_site(config.site)
    prices = read_prices(config.prices)
    requests, cost = plan_serverless(config, site, prices, token=uuid.uuid4().hex)
    summary: Summary = {
        "dollars_an_hour": None if cost is None else round(cost, 3),
        "prices": prices.source,
    }
    if config.dry_run:
        return summary | _shown(*requests)
    answers = [client.call(request, site.region, "emr-serverless") for request in requests]
    if not config.application:
        return summary | {"application": answers[0]["applicationId"]}
    return summary | {"application": config.application, "runs": [answer["jobRunId"] for answer in answers]}


def _package(config: PackageConfig) -> Summary:
    out, root = Path(config.out), Path(config.root)
    commands = build_commands(config.kind, config.platform, out, root)
    if config.dry_run:
        for command in commands:
            _say(shlex.join(command))
        return {"archives": len(commands), "dry_run": True}
    archives = [build(command, out) for command in commands]
    upload = UploadConfig(config.site, tuple(map(str, archives)), config.workspace, config.root)
    return {"archives": [archive.name for archive in archives], **_upload(upload)}


def _upload(config: UploadConfig) -> Summary:
    site = read_site(config.site)
    archives = [read_archive(Path(path)) for path in config.archive]
    plan = uploads(Path(config.root), site, archives, config.workspace, shape("notebook"))
    for upload in plan:
        _say(f"{upload.source} -> {upload.uri}")
        if not config.dry_run:
            client.upload(upload.uri, upload.source, upload.content, site.region)
    environments = {archive.kind: site.code("environments", archive.path.name) for archive in archives}
    if not config.dry_run and environments:
        rows = with_environments(site_rows(config.site), environments)
        Path(config.site).write_text(json.dumps(rows, indent=2) + "\n", "utf-8")
    return {"objects": len(plan), "environments": environments, "dry_run": config.dry_run}


def _list(config: ListConfig) -> Summary:
    states = ["STARTING", "BOOTSTRAPPING", "RUNNING", "WAITING", "TERMINATING"]
    request: Request = ("list_clusters", {"ClusterStates": states})
    if config.dry_run:
        return _shown(request)
    answers = client.pages(request, "Clusters", _region(config.site))
    every = [ClusterState.of(answer) for answer in answers]
    clusters = [cluster for cluster in every if cluster.name.startswith("slicemill")]
    for cluster in clusters:
        _say(f"{cluster.id}  {cluster.state:13} {cluster.started:26} {cluster.name}")
    return {"clusters": [{"id": cluster.id, "state": cluster.state} for cluster in clusters]}


def _instances(config: InstancesConfig) -> Summary:
    request: Request = ("describe_instance_types", {"InstanceTypes": list(config.type)})
    if config.dry_run:
        return _shown(request)
    answer = client.call(request, _region(config.site), "ec2")["InstanceTypes"]
    types = {size.name: size for size in map(from_description, answer)}
    for size in types.values():
        _say(f"{size.name}: {size.vcpus} vCPUs, {size.memory_mib} MiB, {size.gpus} GPUs, {size.architecture}")
    return {"types": sorted(types), "table": str(keep(types))}


def _release_network(config: ReleaseNetworkConfig) -> Summary:
    site = read_site(config.site)
    rules_request, subnet_request = questions(site)
    if config.dry_run:
        return _shown(rules_request, subnet_request)
    rules = client.pages(rules_request, "SecurityGroupRules", site.region, "ec2")
    vpc = client.call(subnet_request, site.region, "ec2")["Subnets"][0]["VpcId"]
    endpoints = client.call(endpoints_of(vpc), site.region, "ec2")["VpcEndpoints"]
    remains = leftovers(rules, endpoints, site)
    for request in removals(remains):
        client.call(request, site.region, "ec2")
    return {"rules": remains.rules, "endpoints": len(remains.endpoints)}


def _cluster_requests(cluster: str) -> tuple[Request, Request]:
    return ("describe_cluster", {"ClusterId": cluster}), ("list_steps", {"ClusterId": cluster})


def _status(config: StatusConfig) -> Summary:
    cluster_request, steps_request = _cluster_requests(config.cluster)
    if config.dry_run:
        return _shown(cluster_request, steps_request)
    region = _region(config.site)
    cluster = client.cluster(config.cluster, region)
    steps = [
        {"id": step.id, "name": step.name, "state": step.state, **_why(step.reason)}
        for step in client.steps(config.cluster, region)
    ]
    return {"cluster": config.cluster, "state": cluster.state, **_why(cluster.reason), "steps": steps}


def _why(reason: Mapping[str, str]) -> dict[str, Any]:
    return {"reason": reason} if reason else {}


def _logs(config: LogsConfig) -> Summary:
    cluster_request, steps_request = _cluster_requests(config.cluster)
    if config.dry_run:
        return _shown(cluster_request, steps_request)
    region = _region(config.site)
    home = client.cluster(config.cluster, region).log_uri
    failed = [step.id for step in client.steps(config.cluster, region) if step.has_failed]
    ids = config.step or tuple(failed)
    logs = {step: client.step_logs(home, config.cluster, step, config.lines, region) for step in ids}
    for step, texts in logs.items():
        for name, lines in texts.items():
            _say(f"== {step} {name}\n" + "\n".join(lines))
    return {"cluster": config.cluster, "logs": {step: sorted(texts) for step, texts in logs.items()}}


def _terminate(config: TerminateConfig) -> Summary:
    request = ("terminate_job_flows", {"JobFlowIds": [config.cluster]})
    if config.dry_run:
        return _shown(request)
    client.call(request, _region(config.site))
    return {"cluster": config.cluster}


def _shown(*requests: Request) -> Summary:
    for operation, arguments in requests:
        _say(json.dumps({"operation": operation, "request": arguments}, indent=2))
    return {"dry_run": True}


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
