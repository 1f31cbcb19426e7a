"""The nightly state machine, walked by moto's interpreter of the Amazon States Language.

What EMR and SNS answer is given state by state; transitions, retries, catches, paths and formats are the
interpreter's.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping
from typing import Any

import boto3
import pytest
from moto import mock_aws
from moto.stepfunctions.parser.asl.component.common.retry import retrier_decl
from moto.stepfunctions.parser.backend.execution_worker import ExecutionWorker
from moto.stepfunctions.parser.mocking.mock_config import (
    MockedResponse,
    MockedResponseReturn,
    MockedResponseThrow,
    MockTestCase,
    StateMockedResponses,
)

from slicemill.emr.requests.nightly import COUNTS, NIGHT, state_machine, substitutions
from slicemill.emr.requests.steps import JobName

#: moto knows no job of EMR to wait for; that a state waits for its job is Step Functions' own part.
WALKED = json.dumps(state_machine()).replace('.sync"', '"')
GOOD: Mapping[str, Any] = {"ClusterId": "j-1"}


def summary(**changes: Any) -> dict[str, str]:
    """What S3 answers for a job's summary."""
    counts = dict.fromkeys({count for counts in COUNTS.values() for count in counts}, 1)
    line = {"status": "done", "mean_patient_dice": 0.8, **counts, **changes}
    return {"Body": json.dumps(line)}


#: Answers of the states that no test changes.
ANSWERS: Mapping[str, Any] = {"ReadIngest": summary(), "ReadScore": summary()}
AFTER = ["Terminate", "Outcome", "ReadIngest", "ReadScore", "Metrics", "HasDice", "DiceMetric", "Verdict"]


def thrown(error: str, cause: str = "because") -> tuple[str, str]:
    return error, cause


FAILED = thrown("EMR.StepFailed", "Exit code 1")


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds that the interpreter would have waited before each retry."""
    waited: list[float] = []
    monkeypatch.setattr(retrier_decl, "time", type("Clock", (), {"sleep": staticmethod(waited.append)}))
    return waited


def walk(
    monkeypatch: pytest.MonkeyPatch, **answers: list[Any]
) -> tuple[dict[str, Any], list[str], dict[str, Any]]:
    """Status of a night, the states that it entered, and what each task was given.

    `answers` of a state are taken in turn: a tuple is an error with its cause, anything else a result.
    States without any answer well.
    """
    tasks = [name for name, state in state_machine()["States"].items() if state["Type"] == "Task"]
    responses = [
        StateMockedResponses(
            name,
            name,
            [
                _response(turn, answer)
                for turn, answer in enumerate(answers.get(name, [ANSWERS.get(name, GOOD)]))
            ],
        )
        for name in tasks
    ]
    case = MockTestCase("nightly", "case", responses)
    begin = ExecutionWorker.__init__
    monkeypatch.setattr(
        ExecutionWorker,
        "__init__",
        lambda *given, **named: begin(*given, **{**named, "mock_test_case": case}),
    )
    with mock_aws(config={"stepfunctions": {"execute_state_machine": True}}):
        client = boto3.client("stepfunctions", "eu-central-1")
        arn = client.create_state_machine(
            name="nightly", definition=WALKED, roleArn="arn:aws:iam::111122223333:role/r"
        )["stateMachineArn"]
        execution = client.start_execution(stateMachineArn=arn, input="{}")["executionArn"]
        deadline = time.monotonic() + 30
        while (found := client.describe_execution(executionArn=execution))["status"] == "RUNNING":
            assert time.monotonic() < deadline
            time.sleep(0.02)
        events = client.get_execution_history(executionArn=execution, maxResults=1000)["events"]
    entered = [one["stateEnteredEventDetails"]["name"] for one in events if "stateEnteredEventDetails" in one]
    given: dict[str, Any] = {}
    state = ""
    for event in events:
        state = event.get("stateEnteredEventDetails", {}).get("name", state)
        if "taskScheduledEventDetails" in event:
            given[state] = json.loads(event["taskScheduledEventDetails"]["parameters"])
    return found, entered, given


def _response(turn: int, answer: Any) -> MockedResponse:
    if isinstance(answer, tuple):
        return MockedResponseThrow(turn, turn, *answer)
    return MockedResponseReturn(turn, turn, answer)


JOBS = [job.capitalize() for job in NIGHT]


def test_a_good_night_runs_the_jobs_in_order_and_ends_the_cluster(
    monkeypatch: pytest.MonkeyPatch, pauses: list[float]
) -> None:
    found, entered, given = walk(monkeypatch)
    assert found["status"] == "SUCCEEDED"
    assert entered == ["CreateCluster", *JOBS, *AFTER, "Done"]
    assert {given[name]["ClusterId"] for name in (*JOBS, "Terminate")} == {"j-1"}
    assert pauses == []


@pytest.mark.parametrize("job", JOBS)
def test_a_job_that_fails_once_is_run_once_more(
    monkeypatch: pytest.MonkeyPatch, pauses: list[float], job: str
) -> None:
    found, entered, _ = walk(monkeypatch, **{job: [FAILED, GOOD]})
    assert found["status"] == "SUCCEEDED"
    assert entered == ["CreateCluster", *JOBS, *AFTER, "Done"]
    assert pauses == [60]


@pytest.mark.parametrize("job", JOBS)
def test_a_job_that_fails_again_ends_the_cluster_and_sends_word(
    monkeypatch: pytest.MonkeyPatch, pauses: list[float], job: str
) -> None:
    found, entered, given = walk(monkeypatch, **{job: [FAILED, FAILED]})
    assert found["status"] == "FAILED"
    assert entered == [
        "CreateCluster",
        *JOBS[: JOBS.index(job) + 1],
        "Terminate",
        "Outcome",
        "Alarm",
        "Failed",
    ]
    assert given["Terminate"]["ClusterId"] == "j-1"
    assert re.fullmatch(r"night \S+: EMR\.StepFailed: Exit code 1", given["Alarm"]["Message"])
    assert (found["error"], found["cause"]) == ("slicemill.NightFailed", "EMR.StepFailed: Exit code 1")


def test_a_cluster_that_can_not_start_sends_word_and_terminates_nothing(
    monkeypatch: pytest.MonkeyPatch, pauses: list[float]
) -> None:
    found, entered, _ = walk(monkeypatch, CreateCluster=[thrown("EMR.ClusterFailed", "BOOTSTRAP_FAILURE")])
    assert (found["status"], found["cause"]) == ("FAILED", "EMR.ClusterFailed: BOOTSTRAP_FAILURE")
    assert entered == ["CreateCluster", "Alarm", "Failed"]
    assert pauses == []


def test_throttling_is_waited_out(monkeypatch: pytest.MonkeyPatch, pauses: list[float]) -> None:
    slow = thrown("EMR.AmazonElasticMapReduceException", "Rate exceeded")
    found, _, _ = walk(monkeypatch, CreateCluster=[slow, slow, slow, GOOD], Score=[slow, GOOD])
    assert found["status"] == "SUCCEEDED"
    assert len(pauses) == 4
    assert max(pauses) <= 120


def test_a_cluster_that_can_not_be_ended_is_told(
    monkeypatch: pytest.MonkeyPatch, pauses: list[float]
) -> None:
    found, entered, given = walk(monkeypatch, Terminate=[thrown("EMR.Refused", "still busy")] * 5)
    assert found["status"] == "FAILED"
    assert entered[-3:] == ["Terminate", "Alarm", "Failed"]
    assert given["Alarm"]["Message"].endswith("EMR.Refused: still busy")


def test_a_message_that_can_not_be_sent_leaves_a_failed_night(
    monkeypatch: pytest.MonkeyPatch, pauses: list[float]
) -> None:
    found, _, _ = walk(monkeypatch, Ingest=[FAILED, FAILED], Alarm=[thrown("SNS.Down", "no topic")] * 4)
    assert found["status"] == "FAILED"


def test_a_night_whose_data_fell_short_scores_all_the_rest_and_then_fails_with_a_message(
    monkeypatch: pytest.MonkeyPatch, pauses: list[float]
) -> None:
    short = summary(status="data_short", quarantined=7)
    for state in ("ReadIngest", "ReadScore"):
        night, entered, inputs = walk(monkeypatch, **{state: [short]})
        assert night["status"] == "FAILED"
        assert entered == ["CreateCluster", *JOBS, *AFTER, "Short", "Alarm", "Failed"]
        assert "more was set aside than the limit allows" in inputs["Alarm"]["Message"]
        assert "7" in inputs["Alarm"]["Message"]


def test_the_counts_of_a_night_become_metrics_of_its_model(
    monkeypatch: pytest.MonkeyPatch, pauses: list[float]
) -> None:
    _, _, inputs = walk(monkeypatch, ReadScore=[summary(scored=12, waiting=3)])
    data = {metric["MetricName"]: metric for metric in inputs["Metrics"]["MetricData"]}
    assert data["score_scored"]["Value"] == 12
    assert data["score_waiting"]["Value"] == 3
    assert {metric["Dimensions"][0]["Value"] for metric in data.values()} == {"${Run}"}
    assert inputs["DiceMetric"]["MetricData"][0]["Value"] == 0.8


def test_a_night_without_masks_has_no_dice_to_count(
    monkeypatch: pytest.MonkeyPatch, pauses: list[float]
) -> None:
    night, entered, _ = walk(monkeypatch, ReadScore=[summary(mean_patient_dice=None)])
    assert night["status"] == "SUCCEEDED"
    assert "DiceMetric" not in entered


def test_counts_that_can_not_be_read_fail_the_night_after_the_cluster_has_ended(
    monkeypatch: pytest.MonkeyPatch, pauses: list[float]
) -> None:
    night, entered, inputs = walk(monkeypatch, ReadIngest=[thrown("S3.NoSuchKeyException", "no key")] * 4)
    assert night["status"] == "FAILED"
    assert entered.index("Terminate") < entered.index("ReadIngest")
    assert inputs["Alarm"]["Message"].endswith("no key")


def test_the_limit_of_a_night_is_the_stacks_parameter_and_a_short_job_goes_on() -> None:
    for job in COUNTS:
        words = state_machine()["States"][job.capitalize()]["Parameters"]["Step"]["HadoopJarStep"]["Args"]
        assert words[words.index("--max-bad-fraction") + 1] == "${MaxBadFraction}"
        assert words[words.index("--summary") + 1].endswith(f"/clusters/summaries/nightly/{job}.json")
        assert words[0] == "bash"


def test_no_way_through_the_machine_leaves_a_cluster_running() -> None:
    states = state_machine()["States"]
    for name in JOBS:
        assert [one["Next"] for one in states[name]["Catch"]] == ["Terminate"]
        assert states[name]["Catch"][0]["ErrorEquals"] == ["States.ALL"]
    assert states[JOBS[-1]]["Next"] == "Terminate"


def test_the_night_ends_before_its_own_time_is_up() -> None:
    machine = state_machine()
    tasks = [state["TimeoutSeconds"] for state in machine["States"].values() if "TimeoutSeconds" in state]
    assert machine["TimeoutSeconds"] >= sum(tasks) - max(tasks)


def test_a_cluster_of_step_functions_has_no_steps_and_stays_for_them() -> None:
    request = state_machine()["States"]["CreateCluster"]["Parameters"]
    assert "Steps" not in request
    assert request["Instances"]["KeepJobFlowAliveWhenNoSteps"] is True
    assert request["AutoTerminationPolicy"]["IdleTimeout"] > 0


def test_the_marks_in_the_definition_are_those_that_are_filled_in() -> None:
    used = set(re.findall(r"\$\{(\w+)\}", json.dumps(state_machine())))
    assert used <= set(substitutions())
    assert {"Environment", "Run", "AlarmTopicArn", "DataBucket"} <= used


def test_a_night_scores_the_model_that_it_is_told_into_a_folder_of_its_own() -> None:
    jobs: tuple[JobName, ...] = ("score", "report")
    for job in jobs:
        arguments = state_machine()["States"][job.capitalize()]["Parameters"]["Step"]["HadoopJarStep"]["Args"]
        assert any(argument.endswith("/scores/${Run}") for argument in arguments)
        assert any(argument.endswith("/runs/${Run}") for argument in arguments)


def test_a_night_leaves_scans_that_are_still_being_written() -> None:
    score = state_machine()["States"]["Score"]["Parameters"]["Step"]["HadoopJarStep"]["Args"]
    assert score[score.index("--quiet-minutes") + 1] == "15"
    assert "--quiet-minutes" not in json.dumps(state_machine()["States"]["Ingest"])
