"""The nightly run as a Step Functions state machine: cluster, jobs, counts, cluster gone, message.

Every job can be run again after it was killed, so a failed step is retried once as it is. Whatever happens
after the cluster has started ends in its termination; whatever goes wrong ends in a message and a failed run.
A night whose data fell short of the limit goes on to its report, and then fails with a message.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from slicemill.emr.capacity.releases import DEFAULT_RELEASE
from slicemill.emr.capacity.shapes import SHAPES, Shape
from slicemill.emr.requests.cluster import Cluster
from slicemill.emr.requests.job_settings import JobName
from slicemill.emr.requests.steps import Step, job_arguments
from slicemill.emr.site import Site

State = dict[str, Any]

#: Jobs of a night, in order, each with the seconds after which it is given up.
NIGHT: dict[JobName, int] = {"ingest": 14_400, "score": 28_800, "report": 3_600}
#: A scan whose newest object is younger may still be on its way: it is scored the next night.
QUIET_MINUTES = 15
#: Jobs whose summary decides on the night, and the counts of it that become metrics.
COUNTS: Mapping[JobName, tuple[str, ...]] = {
    "ingest": ("scans", "slices", "quarantined"),
    "score": (
        *("scans", "scored", "quarantined", "failed", "waiting"),
        *("scans_with_warnings", "new_scans_with_warnings", "new_scans_to_look_at_first"),
    ),
}
#: CloudWatch namespace of the counts.
NAMESPACE = "slicemill"

_EMR = "arn:aws:states:::elasticmapreduce"
_SDK = "arn:aws:states:::aws-sdk"
_CLUSTER_ID = "$.cluster.ClusterId"
#: What CloudFormation's parameters fill in, beside the foundation's outputs.
ENVIRONMENT, RUN, TOPIC, MAX_BAD = "${Environment}", "${Run}", "${AlarmTopicArn}", "${MaxBadFraction}"
#: Key of a job's last summary in the log bucket, which every node may write to.
SUMMARIES = "clusters/summaries/nightly"

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
_A_FEW_TIMES = {"ErrorEquals": ["States.ALL"], "IntervalSeconds": 10, "MaxAttempts": 3, "BackoffRate": 2.0}


def state_machine(release_label: str = DEFAULT_RELEASE, nodes: Shape = SHAPES["cpu"]) -> dict[str, Any]:
    """The machine's definition (ASL), with `${…}` marks for what belongs to an account or a model."""
    site = Site.placeholders()
    names = [job.capitalize() for job in NIGHT]
    following = [*names[1:], "Terminate"]
    jobs = {
        name: _job_state(_step(job, site, nodes).request(site, nodes, "CONTINUE"), NIGHT[job], after)
        for name, job, after in zip(names, NIGHT, following, strict=True)
    }
    return {
        "Comment": "slicemill: last night's scans, scored",
        "StartAt": "CreateCluster",
        "TimeoutSeconds": sum(NIGHT.values()) + 2 * 3_600,
        "States": {
            "CreateCluster": _create(_cluster(site, release_label, nodes), names[0]),
            **jobs,
            **_end(),
            **_counts(),
            **_message(),
        },
    }


def _step(job: JobName, site: Site, nodes: Shape) -> Step:
    arguments = job_arguments(job, site, nodes, RUN, split="none")
    if job == "score":
        arguments += ("--quiet-minutes", str(QUIET_MINUTES))
    if job not in COUNTS:
        return Step(job, arguments)
    return Step(
        job,
        arguments,
        template_arguments=("--max-bad-fraction", MAX_BAD),
        summary=f"s3://{site.log_bucket}/{SUMMARIES}/{job}.json",
        short_is_done=True,
    )


def _cluster(site: Site, release_label: str, nodes: Shape) -> dict[str, Any]:
    cluster = Cluster(
        "slicemill nightly", site, nodes, ENVIRONMENT, long_lived=True, release_label=release_label
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


def _counts() -> dict[str, State]:
    """States that read the jobs' summaries and make metrics of them.

    They come after the cluster has ended: a summary of another form would fail the night at once, uncaught.
    """
    return {
        "ReadIngest": _read("ingest", "ReadScore"),
        "ReadScore": _read("score", "Metrics"),
        "Metrics": _metrics(
            [
                _metric(f"{job}_{count}", f"$.{job}.summary.{count}")
                for job, counts in COUNTS.items()
                for count in counts
            ],
            "HasDice",
        ),
        "HasDice": {
            "Type": "Choice",
            "Choices": [
                {"Variable": "$.score.summary.mean_patient_dice", "IsNumeric": True, "Next": "DiceMetric"}
            ],
            "Default": "Verdict",
        },
        "DiceMetric": _metrics(
            [_metric("mean_patient_dice", "$.score.summary.mean_patient_dice", "None")], "Verdict"
        ),
        "Verdict": {
            "Type": "Choice",
            "Choices": [
                {"Variable": f"$.{job}.summary.status", "StringEquals": "data_short", "Next": "Short"}
                for job in COUNTS
            ],
            "Default": "Done",
        },
    }


def _read(job: JobName, following: str) -> State:
    return {
        "Type": "Task",
        "Resource": f"{_SDK}:s3:getObject",
        "Parameters": {"Bucket": Site.placeholders().log_bucket, "Key": f"{SUMMARIES}/{job}.json"},
        "ResultSelector": {"summary.$": "States.StringToJson($.Body)"},
        "ResultPath": f"$.{job}",
        "Retry": [_A_FEW_TIMES],
        "Catch": [_caught("Alarm")],
        "Next": following,
    }


def _metric(name: str, path: str, unit: str = "Count") -> dict[str, Any]:
    return {
        "MetricName": name,
        "Value.$": path,
        "Unit": unit,
        "Dimensions": [{"Name": "Run", "Value": RUN}],
    }


def _metrics(data: list[dict[str, Any]], following: str) -> State:
    return {
        "Type": "Task",
        "Resource": f"{_SDK}:cloudwatch:putMetricData",
        "Parameters": {"Namespace": NAMESPACE, "MetricData": data},
        "ResultPath": None,
        "Retry": [_A_FEW_TIMES],
        "Catch": [_caught("Alarm")],
        "Next": following,
    }


def _end() -> dict[str, State]:
    return {
        "Terminate": {
            "Type": "Task",
            "Resource": f"{_EMR}:terminateCluster.sync",
            "Parameters": {"ClusterId.$": _CLUSTER_ID},
            "ResultPath": None,
            "TimeoutSeconds": 1_800,
            "Retry": [{**_THROTTLED, "ErrorEquals": ["States.ALL"]}],
            # A cluster that does not end by request ends when it was idle; the message still goes out.
            "Catch": [_caught("Alarm")],
            "Next": "Outcome",
        },
        "Outcome": {
            "Type": "Choice",
            "Choices": [{"Variable": "$.failure", "IsPresent": True, "Next": "Alarm"}],
            "Default": "ReadIngest",
        },
    }


def _message() -> dict[str, State]:
    return {
        "Short": {
            "Type": "Pass",
            "Parameters": {
                "Error": "slicemill.DataShort",
                "Cause.$": (
                    "States.Format('more was set aside than the limit allows: ingest {}, score {} files; all "
                    "else is scored', $.ingest.summary.quarantined, $.score.summary.quarantined)"
                ),
            },
            "ResultPath": "$.failure",
            "Next": "Alarm",
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
            "Retry": [_A_FEW_TIMES],
            "Next": "Failed",
        },
        # A name of its own: what EMR's states fail with may begin with "States.", which no Fail state may.
        "Failed": {
            "Type": "Fail",
            "Error": "slicemill.NightFailed",
            "CausePath": "States.Format('{}: {}', $.failure.Error, $.failure.Cause)",
        },
        "Done": {"Type": "Succeed"},
    }


def substitutions() -> tuple[str, ...]:
    """Names of the `${…}` marks in the definition."""
    marks = [value[2:-1] for value in dataclasses.asdict(Site.placeholders()).values()]
    return (*marks, *(mark[2:-1] for mark in (ENVIRONMENT, RUN, TOPIC, MAX_BAD)))
