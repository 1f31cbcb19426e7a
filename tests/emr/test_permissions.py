"""Every URI that a job is given, held against the policy of the role that its cluster runs under."""

from __future__ import annotations

import fnmatch
import itertools
import json
from collections.abc import Mapping
from typing import Any, get_args

import pytest
from cfnlint.decode import cfn_yaml
from emr_builder import EMR, SITE

from slicemill.emr.capacity.shapes import SHAPES
from slicemill.emr.requests.cluster import profile_for
from slicemill.emr.requests.job_settings import RANK_JOBS, JobName
from slicemill.emr.requests.notebooks import NotebookName, NotebookRun
from slicemill.emr.requests.serverless import SERVERLESS_JOBS
from slicemill.emr.requests.steps import job_arguments

TEMPLATE = cfn_yaml.load(str(EMR / "cloudformation" / "foundation.yaml"))
FOUNDATION = json.loads(json.dumps(TEMPLATE))["Resources"]
#: What each argument of a job does with the objects below its URI.
READS, WRITES, REMOVES = "s3:GetObject", "s3:PutObject", "s3:DeleteObject"
ACCESS: Mapping[str, Mapping[str, str]] = {
    "ingest": {"--raw": READS, "--lake": WRITES},
    "split": {"--lake": WRITES},
    "train": {"--lake": READS, "--out": WRITES},
    "score": {"--model": READS, "--raw": READS, "--out": WRITES},
    "crossval": {"--lake": READS, "--out": WRITES},
    "sweep": {"--lake": READS, "--out": WRITES, "--space": READS},
    "committee": {"--model": READS, "--out": WRITES},
    "compare": {"--run": READS, "--out": WRITES},
    "associate": {"--lake": READS, "--scores": READS, "--out": WRITES},
    "forget": {"--lake": REMOVES, "--run": READS, "--scores": REMOVES, "--report": REMOVES},
    "report": {"--lake": READS, "--run": READS, "--scores": READS, "--out": WRITES},
}
PROFILES = {
    SITE.pipeline_profile: "PipelineRole",
    SITE.training_profile: "TrainingRole",
    SITE.notebook_profile: "NotebookRole",
}


def may(role: str, action: str, uri: str) -> bool:
    """Whether a role's own policies and the common one of all nodes allow an action on an object."""
    buckets = {SITE.data_bucket: "DataBucket", SITE.code_bucket: "CodeBucket", SITE.log_bucket: "LogBucket"}
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    name = f"{buckets[bucket]}.Arn}}/{key}"
    documents = [FOUNDATION["NodePolicy"]["Properties"]["PolicyDocument"]]
    documents += [policy["PolicyDocument"] for policy in FOUNDATION[role]["Properties"]["Policies"]]
    for statement in (statement for document in documents for statement in document["Statement"]):
        actions = statement["Action"] if isinstance(statement["Action"], list) else [statement["Action"]]
        resources = statement["Resource"]
        for resource in resources if isinstance(resources, list) else [resources]:
            pattern = resource.get("Fn::Sub", "") if isinstance(resource, dict) else resource
            allows = statement["Effect"] == "Allow" and action in actions and isinstance(pattern, str)
            if allows and fnmatch.fnmatchcase(name, pattern.removeprefix("${")):
                return True
    return False


@pytest.mark.parametrize("job", get_args(JobName))
@pytest.mark.parametrize("shape", ["cpu", "gpu"])
def test_a_job_may_do_with_its_uris_what_it_does(job: JobName, shape: Any) -> None:
    if shape == "gpu" and job not in (*RANK_JOBS, "score"):
        shape = "cpu"
    role = PROFILES[profile_for(SITE, SHAPES[shape], [job])]
    words = job_arguments(job, SITE, SHAPES[shape], "first", "first")
    uris = {
        flag: value[value.find("s3://") :] for flag, value in itertools.pairwise(words) if "s3://" in value
    }
    assert uris.keys() == ACCESS[job].keys()
    for flag, uri in uris.items():
        assert may(role, ACCESS[job][flag], f"{uri}/object"), (role, flag, uri)


@pytest.mark.parametrize("job", SERVERLESS_JOBS)
def test_a_serverless_job_may_do_with_its_uris_what_it_does(job: JobName) -> None:
    words = job_arguments(job, SITE, SHAPES["cpu"], "first", "first")
    for flag, value in itertools.pairwise(words):
        if "s3://" in value:
            uri = value[value.find("s3://") :]
            assert may("ServerlessRole", ACCESS[job][flag], f"{uri}/object"), (flag, uri)
    assert may("ServerlessRole", WRITES, f"s3://{SITE.log_bucket}/clusters/serverless/log")


@pytest.mark.parametrize("name", get_args(NotebookName))
def test_a_notebook_may_do_with_its_uris_what_it_does(name: NotebookName) -> None:
    run = NotebookRun(SITE, name, "e-1", "j-1", "studio", "first", "first")
    uris = {
        key: value
        for key, value in run.parameters().items()
        if isinstance(value, str) and value.startswith("s3://")
    }
    assert uris
    for key, uri in uris.items():
        assert may("NotebookRole", WRITES if key == "OUT" else READS, f"{uri}/object"), (name, key, uri)


def test_every_role_may_fetch_code_and_leave_logs_and_none_may_change_raw_slices() -> None:
    for role in PROFILES.values():
        assert may(role, READS, SITE.code("environments", "slicemill.tar.gz"))
        assert may(role, READS, SITE.code("bootstrap", "environment.sh"))
        assert may(role, WRITES, f"s3://{SITE.log_bucket}/clusters/summaries/nightly/score.json")
        assert not may(role, WRITES, SITE.data("raw", "scan", "scan_1.tif"))
        assert not may(role, WRITES, SITE.code("jobs", "score.py"))


def test_nodes_that_train_can_not_read_the_key_of_encryption_between_nodes() -> None:
    key = SITE.code("certificates", "certificates.zip")
    assert [role for role in PROFILES.values() if may(role, READS, key)] == ["PipelineRole", "NotebookRole"]
