"""Follow the steps of a cluster to their end, and say how they ended."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from slicemill.emr import client
from slicemill.emr.answers import StepState
from slicemill.emr.site import Site

#: Seconds between looks at a cluster.
_LOOK_SECONDS = 20.0
#: EMR copies a step's logs to S3 some minutes after its end: seconds to wait for the job's summary.
_LOG_SECONDS = 420.0


def follow(
    cluster: str, ids: Sequence[str], site: Site, say: Callable[[str], None], sleep: Callable[[float], None]
) -> list[StepState]:
    """Look at steps until all have ended, each change of state said; return them."""
    states: dict[str, str] = {}
    while True:
        steps = [step for step in client.steps(cluster, site.region) if not ids or step.id in ids]
        for step in steps:
            if states.get(step.id) != step.state:
                say(f"{step.name} {step.id}: {step.state}")
                states[step.id] = step.state
        if steps and not any(step.is_open for step in steps):
            return steps
        sleep(_LOOK_SECONDS)


def job_summary(
    cluster: str, step: str, site: Site, sleep: Callable[[float], None]
) -> Mapping[str, Any] | None:
    """A job's own summary, the last line of its standard output; None if it has not reached S3 in time."""
    home = f"s3://{site.log_bucket}/clusters/"
    waited = 0.0
    while True:
        lines = client.step_logs(home, cluster, step, 1, site.region).get("stdout", ())
        if lines and lines[-1].startswith("{"):
            summary: Mapping[str, Any] = json.loads(lines[-1])
            return summary
        if waited >= _LOG_SECONDS:
            return None
        sleep(_LOOK_SECONDS)
        waited += _LOOK_SECONDS
