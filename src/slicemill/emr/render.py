"""The files of `emr/` that follow from the builders: requests, commands, configurations, steps, schedule."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, get_args

from slicemill.emr.capacity.prices import Prices
from slicemill.emr.capacity.releases import DEFAULT_RELEASE
from slicemill.emr.capacity.shapes import SHAPES, Shape
from slicemill.emr.requests.cluster import Cluster
from slicemill.emr.requests.command_line import cli_command
from slicemill.emr.requests.configurations import configurations
from slicemill.emr.requests.job_settings import SPARK_JOBS, JobName, executors
from slicemill.emr.requests.nightly import NIGHT, state_machine
from slicemill.emr.requests.notebooks import NotebookName, NotebookRun
from slicemill.emr.requests.steps import Step, job_arguments
from slicemill.emr.requests.template import nightly_template
from slicemill.emr.site import Site

#: Names of the model run and the split in what is rendered.
_RUN = _SPLIT = "first"
#: Jobs that each shape's cluster starts with; the notebook's waits for people.
_CPU_STEPS: tuple[JobName, ...] = ("ingest", "split", "score", "report")
#: Of what belongs to a Workspace or to a running cluster, to be filled in.
_EDITOR, _CLUSTER, _STUDIO_ROLE = "e-XXXXXXXXXXXXXXXXXXXXXXXXX", "j-XXXXXXXXXXXXX", "STUDIO_ROLE"
_JOBS: dict[str, tuple[JobName, ...]] = {"cpu": tuple(NIGHT), "gpu": ("train",), "notebook": ()}


@dataclass(frozen=True)
class Choice:
    """What the rendered files are for."""

    site: Site
    environment: str
    gpu_environment: str
    release_label: str = DEFAULT_RELEASE
    night: Shape = SHAPES["cpu"]
    """Nodes of the nightly run."""

    def cluster(self, form: Shape) -> Cluster:
        """The cluster of a shape, with the jobs that it usually runs."""
        jobs = _JOBS[form.name]
        return Cluster(
            name=f"slicemill {' '.join(jobs) or form.name}",
            site=self.site,
            shape=form,
            environment=self.gpu_environment if form.has_gpus else self.environment,
            steps=tuple(Step(job, job_arguments(job, self.site, form, _RUN, _SPLIT)) for job in jobs),
            long_lived=not jobs,
            release_label=self.release_label,
        )


def rendered(choice: Choice, prices: Prices) -> dict[str, str]:
    """Text of each file by its path below `emr/`."""
    files = {}
    for form in SHAPES.values():
        request = choice.cluster(form).request()
        files[f"configurations/{form.name}.json"] = _json(configurations(form, choice.site))
        files[f"clusters/{form.name}.json"] = _json(request)
        files[f"clusters/{form.name}.sh"] = _script(cli_command(request, choice.site.region))
    files |= {f"steps/{name}.json": _json(steps) for name, steps in _steps(choice).items()}
    for name in get_args(NotebookName):
        notebook = NotebookRun(choice.site, name, _EDITOR, _CLUSTER, _STUDIO_ROLE, _RUN, _SPLIT)
        files[f"notebooks/{name}.json"] = _json(notebook.request())
    files["schedule/nightly.asl.json"] = _json(state_machine(choice.release_label, choice.night))
    files["cloudformation/nightly.yaml"] = nightly_template(choice.release_label, choice.night)
    files["sizes.md"] = _sizes(prices)
    return files


def _steps(choice: Choice) -> dict[str, list[dict[str, Any]]]:
    """Steps for a running cluster: client mode, cluster mode, and with the environment as an archive."""
    texts = {}
    for form, jobs in ((SHAPES["cpu"], _CPU_STEPS), (SHAPES["gpu"], _JOBS["gpu"])):
        archive = choice.gpu_environment if form.has_gpus else choice.environment
        for job in jobs:
            arguments = job_arguments(job, choice.site, form, _RUN, _SPLIT)
            ways: dict[str, Step] = {job: Step(job, arguments)}
            if job in SPARK_JOBS:
                ways[f"{job}-cluster-mode"] = Step(job, arguments, "cluster")
                ways[f"{job}-archive"] = Step(job, arguments, "cluster", archive)
            for name, step in ways.items():
                texts[name] = [step.request(choice.site, form, "CANCEL_AND_WAIT")]
    return texts


def _sizes(prices: Prices) -> str:
    lines = [
        "# Sizes and cost",
        "",
        f"Rendered. Prices of {prices.region}: {prices.source}",
        "",
        "| shape | primary | core nodes | dollars an hour |",
        "| --- | --- | --- | --- |",
        *(
            f"| {form.name} | {form.primary} | {form.core_count} x {form.core_types[0]} "
            f"| {form.hourly_cost(prices) or 0:.2f} |"
            for form in SHAPES.values()
        ),
        "",
        "| job on shape | executors | cores | tasks at once | heap MiB | for Python, MiB | GPUs each |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for form, job in ((SHAPES[shape], job) for shape, jobs in _PLANNED.items() for job in jobs):
        plan = executors(job, form)
        lines.append(
            f"| {job} on {form.name} | {plan.count} | {plan.cores} | {plan.slots} | {plan.memory_mib} "
            f"| {plan.overhead_mib} | {plan.gpus} |"
        )
    return "\n".join(lines) + "\n"


_PLANNED: dict[Any, tuple[JobName, ...]] = {"cpu": ("ingest", "score", "train"), "gpu": ("train", "score")}


def _json(value: Any) -> str:
    return json.dumps(value, indent=2) + "\n"


def _script(command: str) -> str:
    return f"#!/usr/bin/env bash\nset -euo pipefail\n\n{command}"
