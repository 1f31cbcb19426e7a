"""The example site and its rendered files, as the committed ones were made."""

from __future__ import annotations

from pathlib import Path

from slicemill.emr.capacity.shapes import SHAPES, ShapeName
from slicemill.emr.render import Choice
from slicemill.emr.requests.cluster import Cluster
from slicemill.emr.requests.steps import Step, job_arguments
from slicemill.emr.site import read_site

EMR = Path(__file__).parents[1] / "emr"
SITE_FILE = str(EMR / "site.example.json")
SITE = read_site(SITE_FILE)
ENVIRONMENT = SITE.code("environments", f"slicemill-cpu-{'0' * 64}.tar.gz")
GPU_ENVIRONMENT = SITE.code("environments", f"slicemill-gpu-{'1' * 64}.tar.gz")
CHOICE = Choice(SITE, ENVIRONMENT, GPU_ENVIRONMENT)


def step(job: str, shape: ShapeName = "cpu", **more: object) -> Step:
    return Step(job, job_arguments(job, SITE, SHAPES[shape], "first", "first"), **more)  # type: ignore[arg-type]


def cluster(shape: ShapeName, *jobs: str, **more: object) -> Cluster:
    steps = tuple(step(job, shape) for job in jobs)
    return Cluster("test", SITE, SHAPES[shape], ENVIRONMENT, steps, **more)  # type: ignore[arg-type]
