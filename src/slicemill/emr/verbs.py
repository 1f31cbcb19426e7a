"""What each subcommand of `slicemill emr` does."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from slicemill.emr import client
from slicemill.emr.capacity.instances import read_prices
from slicemill.emr.capacity.shapes import shape
from slicemill.emr.client import Request
from slicemill.emr.config import (
    EmrConfig,
    LogsConfig,
    NotebookConfig,
    RenderConfig,
    StatusConfig,
    SubmitConfig,
    TerminateConfig,
)
from slicemill.emr.render import Choice, rendered
from slicemill.emr.requests.cluster import Cluster
from slicemill.emr.requests.notebooks import NotebookRun
from slicemill.emr.requests.steps import Step, extra_arguments, job_arguments, requests
from slicemill.emr.site import read_site

Summary = dict[str, Any]

_FAILED = ("FAILED", "CANCELLED", "INTERRUPTED")


def run(config: EmrConfig) -> Summary:
    """Do what was asked and return the summary. Raises ConfigError, InputError or MachineError."""
    command = config.command
    actions: Mapping[type[Any], Callable[[Any], Summary]] = {
        RenderConfig: _render,
        SubmitConfig: _submit,
        NotebookConfig: _notebook,
        StatusConfig: _status,
        LogsConfig: _logs,
        TerminateConfig: _terminate,
    }
    verb = type(command).__name__.removesuffix("Config").lower()
    return {"job": f"emr {verb}", "status": "done", **actions[type(command)](command)}


def _render(config: RenderConfig) -> Summary:
    choice = Choice(read_site(config.site), config.environment, config.gpu_environment, config.release)
    files = rendered(choice, read_prices(config.prices))
    for name, text in files.items():
        target = Path(config.out) / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, "utf-8")
    return {"files": len(files), "out": config.out}


def submission(config: SubmitConfig) -> tuple[Request, str, Summary]:
    """The request, its region, and what the cluster costs by which prices. Raises ConfigError."""
    site = read_site(config.site)
    form = shape(config.shape, config.core_type, config.core_count)
    extra = extra_arguments(config.argument)
    steps = tuple(
        Step(
            job,
            job_arguments(job, site, form, config.run, config.split) + extra[job],
            config.deploy_mode if job in ("ingest", "train", "score") else "client",
            config.environment if config.archive else None,
        )
        for job in config.job
    )
    prices = read_prices(config.prices)
    cost = {"dollars_an_hour": round(form.hourly_cost(prices), 3), "prices": prices.source}
    if config.cluster:
        body = {"JobFlowId": config.cluster, "Steps": requests(steps, site, form, "CANCEL_AND_WAIT")}
        return ("add_job_flow_steps", body), site.region, cost
    name = f"slicemill {' '.join(config.job) or form.name}"
    cluster = Cluster(name, site, form, config.environment, steps, config.keep, config.release)
    return ("run_job_flow", cluster.request()), site.region, cost


def _submit(config: SubmitConfig) -> Summary:
    request, region, cost = submission(config)
    if config.dry_run:
        return cost | _shown(request)
    answer = client.call(request, region)
    return cost | {"cluster": config.cluster or answer["JobFlowId"], "steps": answer.get("StepIds", [])}


def _notebook(config: NotebookConfig) -> Summary:
    site = read_site(config.site)
    notebook = NotebookRun(
        site, config.notebook, config.editor, config.cluster, config.service_role, config.run, config.split
    )
    request = ("start_notebook_execution", notebook.request())
    if config.dry_run:
        return _shown(request)
    return {"execution": client.call(request, site.region)["NotebookExecutionId"]}


def _status(config: StatusConfig) -> Summary:
    asked = ("describe_cluster", {"ClusterId": config.cluster}), ("list_steps", {"ClusterId": config.cluster})
    if config.dry_run:
        return _shown(*asked)
    status = client.call(asked[0])["Cluster"]["Status"]
    steps = [
        {"id": step["Id"], "name": step["Name"], "state": step["Status"]["State"], **_why(step["Status"])}
        for step in client.steps(asked[1])
    ]
    return {"cluster": config.cluster, "state": status["State"], **_why(status), "steps": steps}


def _why(status: Mapping[str, Any]) -> dict[str, Any]:
    said = {**status.get("StateChangeReason", {}), **status.get("FailureDetails", {})}
    return {"reason": said} if said and status["State"] not in ("COMPLETED", "RUNNING", "WAITING") else {}


def _logs(config: LogsConfig) -> Summary:
    asked = ("describe_cluster", {"ClusterId": config.cluster}), ("list_steps", {"ClusterId": config.cluster})
    if config.dry_run:
        return _shown(*asked)
    home = client.call(asked[0])["Cluster"]["LogUri"]
    wanted = config.step or tuple(
        step["Id"] for step in client.steps(asked[1]) if step["Status"]["State"] in _FAILED
    )
    found = {step: client.step_logs(home, config.cluster, step, config.lines) for step in wanted}
    for step, logs in found.items():
        for name, lines in logs.items():
            _say(f"== {step} {name}\n" + "\n".join(lines))
    return {"cluster": config.cluster, "logs": {step: sorted(logs) for step, logs in found.items()}}


def _terminate(config: TerminateConfig) -> Summary:
    request = ("terminate_job_flows", {"JobFlowIds": [config.cluster]})
    if config.dry_run:
        return _shown(request)
    client.call(request)
    return {"cluster": config.cluster}


def _shown(*asked: Request) -> Summary:
    for operation, arguments in asked:
        _say(json.dumps({"operation": operation, "request": arguments}, indent=2))
    return {"dry_run": True}


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
