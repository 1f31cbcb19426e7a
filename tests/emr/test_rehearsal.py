"""Nights of the state machine on moto, under the roles of our own templates.

Jobs are stand-ins that write their summary by the key of their role.
"""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError
from emr_builder import SITE

from slicemill.emr.requests.nightly import COUNTS
from slicemill.emr.site import check_environment

FOLDER = Path(__file__).parents[2] / "scripts" / "rehearsal"


def module(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    loaded = importlib.util.module_from_spec(spec)
    sys.modules[name] = loaded
    spec.loader.exec_module(loaded)
    return loaded


gate, night, node = module("gate"), module("night"), module("node")


class Jobs:
    """Stand-ins for the jobs of a night: exit codes and summaries, by job in turn."""

    def __init__(self) -> None:
        self.codes: dict[str, list[int]] = {}
        self.changes: dict[str, dict[str, Any]] = {}
        self.calls: list[str] = []

    def __call__(self, words: Sequence[str], variables: Mapping[str, str]) -> int:
        job = Path(next(word for word in words if word.endswith(".py"))).stem
        self.calls.append(job)
        code = self.codes.get(job, [0]).pop(0) if self.codes.get(job) else 0
        if code in (0, 3) and "--summary" in words:
            line = {"job": job, "status": "data_short" if code else "done", "mean_patient_dice": 0.9}
            line |= dict.fromkeys([name for names in COUNTS.values() for name in names], 1)
            bucket, _, key = words[words.index("--summary") + 1].removeprefix("s3://").partition("/")
            _s3(variables["AWS_ENDPOINT_URL"], variables["AWS_ACCESS_KEY_ID"]).put_object(
                Bucket=bucket, Key=key, Body=json.dumps(line).encode()
            )
        # What the shell of a step makes of 3.
        return 0 if code == 3 and words[0] == "bash" else code


def _s3(endpoint: str, key: str) -> Any:
    return boto3.client(
        "s3",
        endpoint_url=endpoint,
        region_name=SITE.region,
        aws_access_key_id=key,
        aws_secret_access_key="secret",
    )


@pytest.fixture(scope="module")
def jobs() -> Jobs:
    return Jobs()


@pytest.fixture(scope="module")
def home(jobs: Jobs) -> Iterator[Any]:
    with night.account(jobs) as account:
        yield account


@pytest.fixture(autouse=True)
def calm(jobs: Jobs) -> None:
    jobs.codes.clear()
    jobs.calls.clear()


def test_a_night_that_fires_twice_runs_once_and_sends_no_message(home: Any, jobs: Jobs) -> None:
    good = home.night("good")
    assert (good.status, good.messages) == ("SUCCEEDED", ())
    assert jobs.calls == ["ingest", "score", "report"]


def test_a_step_that_is_killed_once_is_run_once_more(home: Any, jobs: Jobs) -> None:
    jobs.codes["score"] = [137, 0]
    assert home.night("retry").status == "SUCCEEDED"
    assert jobs.calls == ["ingest", "score", "score", "report"]


def test_a_step_that_fails_ends_the_cluster_and_sends_a_message(home: Any, jobs: Jobs) -> None:
    jobs.codes["ingest"] = [1, 1]
    failure = home.night("failure")
    assert failure.status == "FAILED"
    assert failure.states[-2:] == ("Alarm", "Failed")
    (message,) = failure.messages
    assert "States.TaskFailed: slicemill ingest: exit code 1" in message
    # No Fail state may say a name of Step Functions' own.
    assert failure.error == "slicemill.NightFailed"
    open_states = ["STARTING", "BOOTSTRAPPING", "RUNNING", "WAITING"]
    assert home.client("emr").list_clusters(ClusterStates=open_states)["Clusters"] == []


def test_a_poisoned_scan_lets_the_night_score_the_rest_and_then_tells(home: Any, jobs: Jobs) -> None:
    jobs.codes["ingest"] = [3]
    poisoned = home.night("poison")
    assert jobs.calls == ["ingest", "score", "report"]
    assert poisoned.status == "FAILED"
    assert "more was set aside than the limit allows" in poisoned.messages[0]


def test_a_nights_counts_are_metrics_of_its_model(home: Any) -> None:
    home.night("counts")
    metrics = home.client("cloudwatch").list_metrics(Namespace="slicemill")["Metrics"]
    assert {"ingest_scans", "score_scored", "mean_patient_dice"} <= {row["MetricName"] for row in metrics}


WRITES = {
    "PipelineRole": {"lake", "scores", "report"},
    "TrainingRole": {"runs"},
    "NotebookRole": {"notebooks"},
}


@pytest.mark.parametrize("role", WRITES)
def test_the_gate_lets_a_role_write_its_own_folders_and_answers_403_elsewhere(home: Any, role: str) -> None:
    codes = {}
    for folder in ("raw", "lake", "runs", "scores", "report", "notebooks"):
        try:
            home.client("s3", role).put_object(Bucket=SITE.data_bucket, Key=f"{folder}/object", Body=b"")
            codes[folder] = 200
        except ClientError as error:
            codes[folder] = error.response["ResponseMetadata"]["HTTPStatusCode"]
    assert codes == {folder: 200 if folder in WRITES[role] else 403 for folder in codes}
    home.gate.refusals.clear()


def test_nodes_reach_no_service_but_s3(home: Any) -> None:
    with pytest.raises(ClientError) as refusal:
        home.client("iam", "PipelineRole").list_users()
    assert refusal.value.response["ResponseMetadata"]["HTTPStatusCode"] == 403
    home.gate.refusals.clear()


def test_the_environment_of_a_rehearsal_holds_slicemill_and_no_pyspark(tmp_path: Path) -> None:
    archive = node.pack_environment(tmp_path / "packing")
    check_environment(f"s3://code/environments/{archive.name}")
    with tarfile.open(archive) as tar:
        tar.extractall(tmp_path / "node", filter="fully_trusted")
    program = "from importlib.util import find_spec as find; print(find('slicemill').origin, find('pyspark'))"
    python = tmp_path / "node" / "bin" / "python"
    answer = subprocess.run([python, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=True)
    origin, spec = answer.stdout.split()
    assert Path(origin).is_relative_to(tmp_path / "node")
    assert spec == "None"
    assert (tmp_path / "node" / "jobs" / "ingest.py").is_file()
