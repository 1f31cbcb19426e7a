"""`slicemill emr …` as its users run it: dry runs, and a cluster's life against moto's EMR."""

from __future__ import annotations

import gzip
import json
from typing import Any

import boto3
import pytest
from emr_builder import EMR, ENVIRONMENT, GPU_ENVIRONMENT, SITE, SITE_FILE
from moto import mock_aws

from slicemill.cli import run_verb
from slicemill.emr import client
from slicemill.emr.answers import StepState

SUBMIT = ("submit", "--site", SITE_FILE, "--environment", ENVIRONMENT)


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str]) -> Any:
    def run(*arguments: str, code: int = 0) -> tuple[str, dict[str, Any]]:
        """What a command printed before its summary, and the summary."""
        assert run_verb("emr", arguments) == code
        *lines, summary = capsys.readouterr().out.splitlines()
        return "\n".join(lines), json.loads(summary)

    return run


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Any:
    for name, value in {
        "AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x", "AWS_DEFAULT_REGION": SITE.region,
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    for name in ("AWS_ENDPOINT_URL", "AWS_REGION", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    client._client.cache_clear()
    with mock_aws():
        yield boto3.client("emr", SITE.region)
    client._client.cache_clear()


def test_a_dry_run_prints_the_rendered_request_and_sends_nothing(
    said: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "call", None)
    printed, summary = said(*SUBMIT, "--job", "ingest", "--job", "score", "--job", "report", "--dry-run")
    committed = json.loads((EMR / "clusters" / "cpu.json").read_text("utf-8"))
    assert json.loads(printed) == {"operation": "run_job_flow", "request": committed}
    assert summary["job"] == "emr submit"
    assert summary["dry_run"] is True
    assert summary["dollars_an_hour"] == pytest.approx(1.249, abs=0.001)
    assert "from memory, check" in summary["prices"]


@pytest.mark.parametrize("verb", ["status", "logs", "terminate"])
def test_every_verb_that_asks_aws_has_a_dry_run(
    said: Any, monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    monkeypatch.setattr(client, "call", None)
    printed, summary = said(verb, "--cluster", "j-1", "--dry-run")
    assert "j-1" in printed
    assert summary["dry_run"] is True


def test_render_writes_the_committed_files(said: Any, tmp_path: Any) -> None:
    _, summary = said(
        "render", "--site", SITE_FILE, "--environment", ENVIRONMENT, "--gpu-environment", GPU_ENVIRONMENT,
        "--out", str(tmp_path),
    )  # fmt: skip
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert summary["files"] == len(written)
    for path in written:
        assert path.read_text("utf-8") == (EMR / path.relative_to(tmp_path)).read_text("utf-8")


def test_a_cluster_from_start_to_end(said: Any, aws: Any) -> None:
    _, started = said(*SUBMIT, "--job", "ingest", "--keep")
    cluster = started["cluster"]
    _, status = said("status", "--cluster", cluster)
    assert (status["state"], [one["name"] for one in status["steps"]]) == ("WAITING", ["slicemill ingest"])
    _, more = said(*SUBMIT, "--job", "score", "--job", "report", "--cluster", cluster)
    assert len(more["steps"]) == 2
    _, status = said("status", "--cluster", cluster)
    assert [one["name"] for one in status["steps"]] == [
        f"slicemill {job}" for job in ("ingest", "score", "report")
    ]
    found = aws.describe_cluster(ClusterId=cluster)["Cluster"]
    assert found["ReleaseLabel"] == "emr-spark-8.0.0"
    assert {"Key": "project", "Value": "slicemill"} in found["Tags"]
    said("terminate", "--cluster", cluster)
    _, status = said("status", "--cluster", cluster)
    assert status["state"] == "TERMINATED"


def test_the_end_of_a_steps_logs_is_printed(said: Any, aws: Any) -> None:
    _, started = said(*SUBMIT, "--job", "ingest", "--keep")
    cluster = started["cluster"]
    (step,) = aws.list_steps(ClusterId=cluster)["Steps"]
    s3 = boto3.client("s3", SITE.region)
    s3.create_bucket(Bucket=SITE.log_bucket, CreateBucketConfiguration={"LocationConstraint": SITE.region})
    body = gzip.compress("\n".join(f"line {number}" for number in range(100)).encode())
    s3.put_object(Bucket=SITE.log_bucket, Key=f"clusters/{cluster}/steps/{step['Id']}/stderr.gz", Body=body)
    printed, summary = said("logs", "--cluster", cluster, "--step", step["Id"], "--lines", "2")
    assert printed.splitlines() == [f"== {step['Id']} stderr", "line 98", "line 99"]
    assert summary["logs"] == {step["Id"]: ["stderr"]}


def test_what_aws_refuses_is_one_line_and_exit_code_1(said: Any, aws: Any) -> None:
    _, summary = said("status", "--cluster", "j-NONE", code=1)
    assert summary["status"] == "failed"
    assert "AWS refused" in summary["error"]


def test_missing_credentials_are_named(said: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    client._client.cache_clear()
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE", "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-central-1")
    _, summary = said("status", "--cluster", "j-1", code=1)
    assert "credentials and a region" in summary["error"]
    client._client.cache_clear()


@pytest.mark.parametrize(
    "arguments",
    [
        ("submit", "--site", "nowhere.json", "--environment", ENVIRONMENT, "--job", "ingest"),
        (*SUBMIT,),
        (*SUBMIT, "--job", "train", "--job", "score"),
        (*SUBMIT, "--job", "ingest", "--argument", "ingest.rwa=x"),
        ("start",),
    ],
)
def test_a_users_mistake_is_exit_code_2(said: Any, arguments: tuple[str, ...]) -> None:
    _, summary = said(*arguments, code=2)
    assert summary["status"] == "bad_arguments"


def test_only_our_clusters_are_listed(said: Any, aws: Any) -> None:
    _, started = said(*SUBMIT, "--job", "ingest", "--keep")
    nodes = {"MasterInstanceType": "m5.xlarge", "KeepJobFlowAliveWhenNoSteps": True}
    aws.run_job_flow(Name="another team's", Instances=nodes)
    printed, summary = said("list", "--site", SITE_FILE)
    assert [cluster["id"] for cluster in summary["clusters"]] == [started["cluster"]]
    assert started["cluster"] in printed


def test_a_clusters_region_may_come_from_the_site(
    said: Any, aws: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, started = said(*SUBMIT, "--job", "ingest", "--keep")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-west-2")
    client._client.cache_clear()
    _, status = said("status", "--cluster", started["cluster"], "--site", SITE_FILE)
    assert status["state"] == "WAITING"
    said("terminate", "--cluster", started["cluster"], "--site", SITE_FILE)


def test_what_emr_leaves_in_the_network_is_removed_and_nothing_else(
    said: Any, aws: Any, tmp_path: Any
) -> None:
    ec2 = boto3.client("ec2", SITE.region)
    vpc = ec2.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
    subnet = ec2.create_subnet(VpcId=vpc, CidrBlock="10.0.0.0/20")["Subnet"]["SubnetId"]
    groups = {
        name: ec2.create_security_group(GroupName=name, Description=name, VpcId=vpc)["GroupId"]
        for name in ("PrimaryGroup", "CoreGroup", "ServiceGroup")
    }

    def from_group(group: str, port: int) -> dict[str, Any]:
        return {
            "IpProtocol": "tcp", "FromPort": port, "ToPort": port, "UserIdGroupPairs": [{"GroupId": group}],
        }  # fmt: skip

    primary, core, service = groups.values()
    ec2.authorize_security_group_ingress(GroupId=primary, IpPermissions=[from_group(core, 8443)])
    ec2.authorize_security_group_ingress(GroupId=core, IpPermissions=[from_group(primary, 8443)])
    ours = {"IpProtocol": "tcp", "FromPort": 443, "ToPort": 443, "IpRanges": [{"CidrIp": "10.0.0.0/16"}]}
    ec2.authorize_security_group_ingress(GroupId=service, IpPermissions=[ours])
    emrs = "aws.api.eu-central-1.emr-service-cell01"
    for name in (emrs, "com.amazonaws.eu-central-1.kms"):
        ec2.create_vpc_endpoint(VpcId=vpc, ServiceName=name, VpcEndpointType="Interface")
    site_file = tmp_path / "site.json"
    changed = groups | {"SubnetId": subnet}
    rows = json.loads((EMR / "site.example.json").read_text("utf-8"))
    site_file.write_text(
        json.dumps([row | {"OutputValue": changed.get(row["OutputKey"], row["OutputValue"])} for row in rows])
    )
    for rules, endpoints in ((2, 1), (0, 0)):
        _, summary = said("release-network", "--site", str(site_file))
        assert (summary["rules"], summary["endpoints"]) == (rules, endpoints)
    left = ec2.describe_security_groups(GroupIds=list(groups.values()))["SecurityGroups"]
    assert {group["GroupId"]: len(group["IpPermissions"]) for group in left} == {
        primary: 0, core: 0, service: 1,
    }  # fmt: skip
    remaining = ec2.describe_vpc_endpoints()["VpcEndpoints"]
    assert [one["ServiceName"] for one in remaining if one["State"] != "deleted"] == [
        "com.amazonaws.eu-central-1.kms"
    ]


def test_ec2_is_asked_for_a_types_size_once(
    said: Any, aws: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    printed, summary = said("instances", "--type", "x2idn.16xlarge", "--site", SITE_FILE)
    assert summary["types"] == ["x2idn.16xlarge"]
    assert "64 vCPUs" in printed
    _, dry = said(*SUBMIT, "--job", "ingest", "--core-type", "x2idn.16xlarge", "--dry-run")
    assert dry["dollars_an_hour"] is None


def test_waiting_ends_with_the_jobs_own_summary_and_exit_code(
    said: Any, aws: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    states = iter([["PENDING"], ["RUNNING"], ["COMPLETED"]])
    monkeypatch.setattr(
        client,
        "steps",
        lambda cluster, region: [StepState("s-1", "slicemill ingest", state) for state in next(states)],
    )
    monkeypatch.setattr("slicemill.emr.verbs.time.sleep", lambda seconds: None)
    line = json.dumps({"job": "ingest", "status": "data_short", "quarantined": 3})
    monkeypatch.setattr(client, "step_logs", lambda *arguments: {"stdout": [line]})
    printed, summary = said(*SUBMIT, "--job", "ingest", "--wait", code=3)
    assert [row.rpartition(": ")[2] for row in printed.splitlines()] == ["PENDING", "RUNNING", "COMPLETED"]
    assert summary["summary"]["quarantined"] == 3


def test_a_step_that_failed_without_a_summary_is_named(
    said: Any, aws: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    failed = [StepState("s-9", "slicemill ingest", "FAILED")]
    monkeypatch.setattr(client, "steps", lambda cluster, region: failed)
    monkeypatch.setattr("slicemill.emr.verbs.time.sleep", lambda seconds: None)
    boto3.client("s3", SITE.region).create_bucket(
        Bucket=SITE.log_bucket, CreateBucketConfiguration={"LocationConstraint": SITE.region}
    )
    _, summary = said(*SUBMIT, "--job", "ingest", "--wait", code=1)
    assert "s-9" in summary["error"]
