"""Every request against botocore's own model of EMR, and the CLI's form of it against the same values."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from botocore.exceptions import ParamValidationError
from botocore.stub import Stubber
from emr_builder import CHOICE, ENVIRONMENT, SITE, cluster, step

from slicemill.emr.capacity.shapes import SHAPES, ShapeName
from slicemill.emr.requests.cluster import MANAGED_TAG
from slicemill.emr.requests.command_line import cli_command
from slicemill.emr.requests.steps import requests


@pytest.fixture
def emr() -> Iterator[tuple[Any, Stubber]]:
    client = boto3.client("emr", "eu-central-1", aws_access_key_id="x", aws_secret_access_key="x")
    with Stubber(client) as stubber:
        yield client, stubber


SHAPES_AND_JOBS = [
    ("cpu", ("ingest", "score", "report")),
    ("cpu", ("split",)),
    ("cpu", ("train",)),
    ("gpu", ("train",)),
    ("gpu", ("score",)),
    ("cpu", ("crossval", "committee")),
    ("gpu", ("crossval",)),
    ("cpu", ("compare", "associate")),
    ("notebook", ()),
]


@pytest.mark.parametrize(("shape", "jobs"), SHAPES_AND_JOBS)
@pytest.mark.parametrize("label", ["emr-spark-8.0.0", "emr-7.13.0"])
def test_a_clusters_request_fits_the_service_model(
    emr: tuple[Any, Stubber], shape: ShapeName, jobs: tuple[str, ...], label: str
) -> None:
    client, stubber = emr
    request = cluster(shape, *jobs, long_lived=not jobs, release_label=label).request()
    stubber.add_response("run_job_flow", {"JobFlowId": "j-1"}, request)
    assert client.run_job_flow(**request)["JobFlowId"] == "j-1"


@pytest.mark.parametrize("mode", ["client", "cluster"])
def test_further_steps_fit_the_service_model(emr: tuple[Any, Stubber], mode: Any) -> None:
    client, stubber = emr
    steps = requests(
        [step("ingest", deploy_mode=mode), step("score", deploy_mode=mode)], SITE, SHAPES["cpu"], "CONTINUE"
    )
    stubber.add_response("add_job_flow_steps", {"StepIds": ["s-1", "s-2"]})
    assert client.add_job_flow_steps(JobFlowId="j-1", Steps=steps)["StepIds"] == ["s-1", "s-2"]


def test_the_service_model_would_have_caught_a_wrong_field(emr: tuple[Any, Stubber]) -> None:
    client, stubber = emr
    stubber.add_response("run_job_flow", {"JobFlowId": "j-1"})
    request = cluster("cpu", "ingest").request()
    request["Instances"]["SubnetId"] = request["Instances"].pop("Ec2SubnetId")
    with pytest.raises(ParamValidationError, match="SubnetId"):
        client.run_job_flow(**request)


def test_a_cluster_ends_by_itself_encrypts_and_is_tagged() -> None:
    transient, kept = cluster("cpu", "ingest").request(), cluster("cpu", long_lived=True).request()
    assert transient["Instances"]["KeepJobFlowAliveWhenNoSteps"] is False
    assert {one["ActionOnFailure"] for one in transient["Steps"]} == {"TERMINATE_CLUSTER"}
    for request in (transient, kept):
        assert request["AutoTerminationPolicy"]["IdleTimeout"] >= 60
        assert {"Key": MANAGED_TAG, "Value": "true"} in request["Tags"]
        assert {"Key": "project", "Value": "slicemill"} in request["Tags"]
        assert request["SecurityConfiguration"] == SITE.security_configuration
        assert request["LogEncryptionKmsKeyId"] == SITE.key_arn


def test_each_kind_of_cluster_has_its_own_role() -> None:
    profiles = {
        (form.name, cluster_.trains): cluster_.request()["JobFlowRole"]
        for form in SHAPES.values()
        for cluster_ in (CHOICE.cluster(form),)
    }
    assert profiles == {
        ("cpu", False): SITE.pipeline_profile,
        ("gpu", True): SITE.training_profile,
        ("notebook", False): SITE.notebook_profile,
    }
    assert cluster("cpu", "train").request()["JobFlowRole"] == SITE.training_profile
    assert cluster("gpu", "score").request()["JobFlowRole"] == SITE.pipeline_profile


def test_gpu_parts_are_on_gpu_clusters_only() -> None:
    for form in SHAPES.values():
        request = CHOICE.cluster(form).request()
        names = [one["Classification"] for one in request["Configurations"]]
        scripts = [one["Name"] for one in request["BootstrapActions"]]
        assert ("container-executor" in names) == ("gpu" in scripts) == form.has_gpus


def test_python_is_set_wherever_emr_could_take_its_own() -> None:
    for form in SHAPES.values():
        found = {one["Classification"]: one for one in CHOICE.cluster(form).request()["Configurations"]}
        exported = found["spark-env"]["Configurations"][0]["Properties"]
        assert found["spark-defaults"]["Properties"]["spark.pyspark.python"] == exported["PYSPARK_PYTHON"]
        assert exported["PYSPARK_PYTHON"] == "/opt/slicemill/bin/python"


def test_the_command_line_says_the_same_as_the_request() -> None:
    request = cluster("gpu", "train").request()
    words = shlex.split(cli_command(request, SITE.region).replace("\\\n", " "))
    assert words[:3] == ["aws", "emr", "create-cluster"]

    def after(option: str) -> str:
        return words[words.index(option) + 1]

    assert json.loads(after("--configurations")) == request["Configurations"]
    assert json.loads(after("--steps"))[0]["Args"] == request["Steps"][0]["HadoopJarStep"]["Args"]
    assert json.loads(after("--ec2-attributes"))["InstanceProfile"] == request["JobFlowRole"]
    groups = json.loads(after("--instance-groups"))
    assert [(one["InstanceGroupType"], one["InstanceCount"]) for one in groups] == [
        ("MASTER", 1),
        ("CORE", 2),
    ]
    assert json.loads(after("--bootstrap-actions"))[0]["Args"] == [ENVIRONMENT]
    assert "--auto-terminate" in words
