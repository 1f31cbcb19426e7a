"""EMR Serverless: requests against botocore's model, roles, and what is refused."""

from __future__ import annotations

import dataclasses
import json
import shlex
from typing import Any

import boto3
import pytest
from botocore.stub import Stubber
from emr_builder import ENVIRONMENT, GPU_ENVIRONMENT, SITE, SITE_FILE

from slicemill.cli import run_verb
from slicemill.emr import client
from slicemill.emr.capacity.prices import read_prices
from slicemill.emr.capacity.shapes import SHAPES
from slicemill.emr.requests.job_settings import JobName
from slicemill.emr.requests.serverless import SERVERLESS_JOBS, Application, JobRun
from slicemill.emr.requests.steps import job_arguments
from slicemill.errors import ConfigError


def job_run(job: JobName, **changes: Any) -> JobRun:
    arguments = job_arguments(job, SITE, SHAPES["cpu"], "first", "first")
    values = {"arguments": arguments, "token": "t", **changes}
    return JobRun(SITE, "00abc", SITE.serverless_role_arn, ENVIRONMENT, job, **values)


@pytest.mark.parametrize("job", SERVERLESS_JOBS)
def test_a_job_run_fits_the_service_model(job: JobName) -> None:
    serverless = boto3.client("emr-serverless", SITE.region, aws_access_key_id="x", aws_secret_access_key="x")
    request = job_run(job).request()
    with Stubber(serverless) as stubber:
        answer = {"applicationId": "00abc", "jobRunId": "00def", "arn": "a" * 60}
        stubber.add_response("start_job_run", answer, request)
        assert serverless.start_job_run(**request)["jobRunId"] == "00def"


def test_an_application_fits_the_service_model_and_stops_when_idle() -> None:
    serverless = boto3.client("emr-serverless", SITE.region, aws_access_key_id="x", aws_secret_access_key="x")
    request = Application(SITE, 5).request() | {"clientToken": "t"}
    assert request["maximumCapacity"]["cpu"] == "20 vCPU"
    assert request["autoStopConfiguration"]["enabled"] is True
    with Stubber(serverless) as stubber:
        stubber.add_response("create_application", {"applicationId": "00abc", "arn": "a" * 60}, request)
        assert serverless.create_application(**request)["applicationId"] == "00abc"


def test_driver_and_executors_run_in_the_packed_environment() -> None:
    words = shlex.split(job_run("score").request()["jobDriver"]["sparkSubmit"]["sparkSubmitParameters"])
    settings = dict(word.split("=", 1) for word in words if word != "--conf")
    assert settings["spark.archives"] == f"{ENVIRONMENT}#environment"
    pythons = {value for key, value in settings.items() if key.endswith("PYTHON")}
    assert pythons == {"./environment/bin/python"}
    assert settings["spark.dynamicAllocation.enabled"] == "false"
    assert not [key for key in settings if key.startswith("spark.yarn.")]


@pytest.mark.parametrize("job", ["train", "crossval", "sweep"])
def test_training_is_refused_where_there_is_no_gpu(job: Any) -> None:
    with pytest.raises(ConfigError, match="no GPU and no ranks"):
        job_run(job)


def test_cost_counts_the_driver_and_every_executor() -> None:
    prices = read_prices()
    worker = 4 * 0.052624 + 16 * 0.0057785
    assert job_run("score", workers=3).hourly_cost(prices) == pytest.approx(4 * worker)
    unknown = dataclasses.replace(prices, serverless_gib_hour=None)
    assert job_run("score").hourly_cost(unknown) is None


def test_a_dry_run_prints_each_request_and_sends_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(client, "call", None)
    base = ["serverless", "--site", SITE_FILE, "--environment", ENVIRONMENT, "--dry-run"]
    assert run_verb("emr", base) == 0
    assert '"operation": "create_application"' in capsys.readouterr().out
    assert run_verb("emr", [*base, "--application", "00abc", "--job", "ingest", "--job", "split"]) == 0
    printed = capsys.readouterr().out
    assert printed.count('"operation": "start_job_run"') == 2
    assert json.loads(printed.splitlines()[-1])["dollars_an_hour"] > 0


@pytest.mark.parametrize(
    "arguments",
    [
        ("--environment", ENVIRONMENT, "--job", "ingest"),
        ("--environment", GPU_ENVIRONMENT.replace("slicemill-gpu", "slicemill-0-gpu-x86_64")),
        ("--environment", ENVIRONMENT, "--application", "00abc", "--job", "train"),
    ],
)
def test_what_can_not_run_is_refused_before_it_is_sent(
    arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_verb("emr", ["serverless", "--site", SITE_FILE, *arguments, "--dry-run"]) == 2
