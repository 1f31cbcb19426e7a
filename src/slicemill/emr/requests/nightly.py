"""The nightly run as a Step Functions state machine: cluster, ingest, score, report, cluster gone, word sent.

Every job can be run again after it was killed, so a failed step is retried once as it is. Whatever happens
after the cluster is there ends in its termination; whatever goes wrong ends in a message and a failed run.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from slicemill.emr.capacity.releases import DEFAULT_RELEASE
from slicemill.emr.capacity.shapes import SHAPES
from slicemill.emr.requests.cluster import Cluster
from slicemill.emr.requests.job_settings import JobName
from slicemill.emr.requests.steps import Step, job_arguments
from slicemill.emr.site import Site

State = dict[str, Any]

#: Jobs of a night, in order, each with the seconds after which it is given up.
NIGHT: dict[JobName, int] = {"ingest": 14_400, "score": 28_800, "report": 3_600}
#: A scan whose newest object is younger may still be on its way: it is scored the next night.
QUIET_MINUTES = 15

_EMR = "arn:aws:states:::elasticmapreduce"
_CLUSTER_ID = "$.cluster.ClusterId"
#: What CloudFormation's parameters fill in, beside the foundation's outputs.
ENVIRONMENT, RUN, TOPIC = "${Environment}", "${Run}", "${AlarmTopicArn}"

#: EMR and Step Functions throttle requests; a cluster that could not start is not tried again at once.
_THROTTLED = {
    "ErrorEquals": ["EMR.AmazonElasticMapReduceException", "EMR.ThrottlingException"],
    "IntervalSeconds": 30,
    "MaxAttempts": 4,
    "BackoffRate": 2.0,
    "JitterStrategy": "FULL",
}
_MESSAGE = "States.Format('night {}: {}: {}', $$.Execution.Name, $.failure.Error, $.failure.Cause)"
_ONCE_MORE = {
    "ErrorEquals": ["States.TaskFailed"],
    "IntervalSeconds": 60,
    "MaxAttempts": 1,
    "BackoffRate": 1.0,
}


def state_machine(release_label: str = DEFAULT_RELEASE) -> dict[str, Any]:
    """The machine's definition (ASL), with `${…}` marks for what belongs to an account or a model."""
    site = Site.placeholders()
    shape = SHAPES["cpu"]
    waiting = {"score": ("--quiet-minutes", str(QUIET_MINUTES))}
    steps = {
        job: Step(job, job_arguments(job, site, shape, RUN, split="none") + waiting.get(job, ()))
        for job in NIGHT
    }
    names = [job.capitalize() for job in NIGHT]
    following = [*names[1:], "Terminate"]
    jobs = {
        name: _job_state(steps[job].request(site, shape, "CONTINUE"), NIGHT[job], after)
        for name, job, after in zip(names, NIGHT, following, strict=True)
    }
    return {
        "Comment": "slicemill: last night's scans, scored",
        "StartAt": "CreateCluster",
        "TimeoutSeconds": sum(NIGHT.values()) + 2 * 3_600,
        "States": {"CreateCluster": _create(_cluster(site, release_label), names[0]), **jobs, **_end()},
    }


def _cluster(site: Site, release_label: str) -> dict[str, Any]:
    cluster = Cluster(
        "slicemill nightly", site, SHAPES["cpu"], ENVIRONMENT, long_lived=True, release_label=release_label
    )
    # createCluster takes RunJobFlow's parameters less the steps, and keeps the cluster for addStep.
    return {key: value for key, value in cluster.request().items() if key != "Steps"}


def _create(request: dict[str, Any], following: str) -> State:
    return {
        "Type": "Task",
        "Resource": f"{_EMR}:createCluster.sync",
        "Parameters": request,
        "ResultPath": "$.cluster",
        "TimeoutSeconds": 3_600,
        "Retry": [_THROTTLED],
        "Catch": [_caught("Alarm")],
        "Next": following,
    }


def _job_state(step: dict[str, Any], seconds: int, following: str) -> State:
    return {
        "Type": "Task",
        "Resource": f"{_EMR}:addStep.sync",
        "Parameters": {"ClusterId.$": _CLUSTER_ID, "Step": step},
        "ResultPath": None,
        "TimeoutSeconds": seconds,
        "Retry": [_THROTTLED, _ONCE_MORE],
        "Catch": [_caught("Terminate")],
        "Next": following,
    }


def _caught(following: str) -> dict[str, Any]:
    return {"ErrorEquals": ["States.ALL"], "ResultPath": "$.failure", "Next": following}


def _end() -> dict[str, State]:
    return {
        "Terminate": {
            "Type": "Task",
            "Resource": f"{_EMR}:terminateCluster.sync",
            "Parameters": {"ClusterId.$": _CLUSTER_ID},
            "ResultPath": None,
            "TimeoutSeconds": 1_800,
            "Retry": [{**_THROTTLED, "ErrorEquals": ["States.ALL"]}],
            # A cluster that does not end by request ends when it was idle; the night must still be told.
            "Catch": [_caught("Alarm")],
            "Next": "Outcome",
        },
        "Outcome": {
            "Type": "Choice",
            "Choices": [{"Variable": "$.failure", "IsPresent": True, "Next": "Alarm"}],
            "Default": "Done",
        },
        "Alarm": {
            "Type": "Task",
            "Resource": "arn:aws:states:::sns:publish",
            "Parameters": {
                "TopicArn": TOPIC,
                "Subject": "slicemill: the nightly run failed",
                "Message.$": _MESSAGE,
            },
            "ResultPath": None,
            "Retry": [
                {"ErrorEquals": ["States.ALL"], "IntervalSeconds": 10, "MaxAttempts": 3, "BackoffRate": 2.0}
            ],
            "Next": "Failed",
        },
        "Failed": {"Type": "Fail", "ErrorPath": "$.failure.Error", "CausePath": "$.failure.Cause"},
        "Done": {"Type": "Succeed"},
    }


def substitutions() -> tuple[str, ...]:
    """Names of the `${…}` marks in the definition."""
    marks = [value[2:-1] for value in dataclasses.asdict(Site.placeholders()).values()]
    return (*marks, *(mark[2:-1] for mark in (ENVIRONMENT, RUN, TOPIC)))
