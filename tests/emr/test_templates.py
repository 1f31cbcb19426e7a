"""The CloudFormation templates: who may do what to which of our things. `make lint` runs cfn-lint on them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cfnlint.decode import cfn_yaml
from emr_builder import EMR

TEMPLATES = sorted((EMR / "cloudformation").glob("*.yaml"))
#: Actions that AWS offers for no resource in particular; each stands under a condition of ours.
WITHOUT_RESOURCE = {
    "elasticmapreduce:RunJobFlow": {"StringEquals": {"aws:RequestTag/project": "slicemill"}},
    "emr-serverless:CreateApplication": {"StringEquals": {"aws:RequestTag/project": "slicemill"}},
    "cloudwatch:PutMetricData": {"StringEquals": {"cloudwatch:namespace": "slicemill"}},
}
READS = ("s3:Get", "s3:List")
#: CloudWatch Logs sets up a state machine's logging by these, which know neither resource nor condition.
LOG_DELIVERY = {
    "logs:CreateLogDelivery", "logs:GetLogDelivery", "logs:UpdateLogDelivery", "logs:DeleteLogDelivery",
    "logs:ListLogDeliveries", "logs:PutResourcePolicy", "logs:DescribeResourcePolicies",
    "logs:DescribeLogGroups",
}  # fmt: skip


def load(path: Path) -> Any:
    # As plain JSON: cfn-lint's own nodes carry line numbers.
    return json.loads(json.dumps(cfn_yaml.load(str(path))))


def statements() -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Template and resource of each statement of each policy, trust policies apart."""
    for path in TEMPLATES:
        for name, resource in load(path)["Resources"].items():
            properties = resource.get("Properties", {})
            documents = [one["PolicyDocument"] for one in properties.get("Policies", ())]
            documents += [properties[key] for key in ("PolicyDocument", "KeyPolicy") if key in properties]
            for document in documents:
                for statement in document["Statement"]:
                    yield path.stem, f"{resource['Type']} {name}", statement


def as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def test_there_are_templates_and_statements_to_look_at() -> None:
    assert [path.name for path in TEMPLATES] == ["foundation.yaml", "nightly.yaml", "studio.yaml"]
    assert len(list(statements())) > 25


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.name)
def test_no_template_tells_cfn_lint_to_look_away(path: Path) -> None:
    assert "cfn-lint" not in path.read_text("utf-8")


def test_no_statement_allows_everything_or_everything_of_a_service() -> None:
    for template, owner, statement in statements():
        if statement["Effect"] == "Allow":
            for action in as_list(statement["Action"]):
                assert action != "*", (template, owner)
                assert not action.endswith(":*"), (template, owner)
            assert "NotAction" not in statement
            assert "NotResource" not in statement


def test_nothing_is_written_through_the_s3_endpoint_into_another_account_but_emrs_own_reports() -> None:
    endpoint = [statement for _, owner, statement in statements() if owner.endswith("S3Endpoint")]
    writes = [row for row in endpoint if not all(name.startswith(READS) for name in as_list(row["Action"]))]
    assert writes
    for statement in writes:
        if statement.get("Condition") == {"StringEquals": {"aws:ResourceAccount": {"Ref": "AWS::AccountId"}}}:
            continue
        buckets = {row["Fn::Sub"].partition(":s3:::")[2] for row in as_list(statement["Resource"])}
        assert buckets == {
            "prod.${AWS::Region}.appinfo.src/*",
            "aws157-instance-data-0-prod-${AWS::Region}/*",
            "aws157-instance-data-1-prod-${AWS::Region}/*",
        }


def test_a_star_as_resource_is_for_keys_own_policies_and_actions_that_know_none() -> None:
    for _, owner, statement in statements():
        if statement["Effect"] != "Allow" or "*" not in as_list(statement["Resource"]):
            continue
        if owner.startswith("AWS::KMS::Key "):
            assert statement["Principal"] != "*"
            continue
        if owner.startswith("AWS::EC2::VPCEndpoint "):
            if owner.endswith("S3Endpoint"):
                continue
            # In an endpoint's policy "*" is what may pass it: this account's own.
            assert statement["Condition"] == {
                "StringEquals": {"aws:PrincipalAccount": {"Ref": "AWS::AccountId"}}
            }
            continue
        if set(as_list(statement["Action"])) == LOG_DELIVERY:
            continue
        (action,) = as_list(statement["Action"])
        assert statement["Condition"] == WITHOUT_RESOURCE[action], owner


def test_s3_and_kms_statements_name_only_our_buckets_and_our_key() -> None:
    buckets = {"DataBucket", "CodeBucket", "LogBucket", "WorkspaceBucket", "AccessLogBucket"}
    for template, owner, statement in statements():
        if owner.startswith(("AWS::KMS::Key ", "AWS::EC2::VPCEndpoint ")):
            continue
        services = {action.split(":")[0] for action in as_list(statement["Action"])}
        for resource in as_list(statement["Resource"]):
            text = json.dumps(resource)
            if "s3" in services and "Foundation}-LogBucket" in text:
                # The foundation's, by its name: a stack exports no ARN of it.
                assert "${LogBucket}/clusters/summaries/nightly/*" in text, owner
            elif "s3" in services:
                named = any(f"{bucket}.Arn" in text or f'["{bucket}", "Arn"]' in text for bucket in buckets)
                assert named, owner
                assert "arn:" not in text, owner
            if "kms" in services:
                ours = '["Key", "Arn"]' in text or "Foundation}-KeyArn" in text
                assert ours, (template, owner)


def test_nobody_who_scores_may_write_models_and_nobody_may_change_raw_slices() -> None:
    writes = {"s3:PutObject", "s3:DeleteObject"}
    written: dict[str, set[str]] = {}
    for _, owner, statement in statements():
        if owner.startswith("AWS::EC2::VPCEndpoint "):
            continue
        if statement["Effect"] == "Allow" and writes & set(as_list(statement["Action"])):
            written.setdefault(owner.split()[-1], set()).update(
                json.dumps(one).split("/")[1] for one in as_list(statement["Resource"])
            )
    assert written == {
        "NodePolicy": {"clusters"},
        # S3's own log delivery.
        "AccessLogBucketPolicy": {"data", "code"},
        "PipelineRole": {"lake", "scores", "report"},
        "ServerlessRole": {"lake", "scores", "report"},
        "TrainingRole": {"runs"},
        "NotebookRole": {"notebooks"},
        "StudioRole": {"studio"},
        "WorkspaceUserPolicy": {"studio"},
    }


def test_roles_are_given_to_the_service_they_are_for_only() -> None:
    passed = [one for _, _, one in statements() if "iam:PassRole" in as_list(one["Action"])]
    assert passed
    for statement in passed:
        assert statement["Condition"]["StringEquals"]["iam:PassedToService"]
        assert "*" not in json.dumps(statement["Resource"])


def test_buckets_are_private_encrypted_versioned_and_forget_incomplete_uploads() -> None:
    resources = {
        name: one
        for path in TEMPLATES
        for name, one in load(path)["Resources"].items()
        if one["Type"].startswith("AWS::S3::")
    }
    buckets = {name: one for name, one in resources.items() if one["Type"] == "AWS::S3::Bucket"}
    policies = [one["Properties"] for one in resources.values() if one["Type"] == "AWS::S3::BucketPolicy"]
    assert set(buckets) == {"DataBucket", "CodeBucket", "LogBucket", "WorkspaceBucket", "AccessLogBucket"}
    logging = buckets["DataBucket"]["Properties"]["LoggingConfiguration"]
    assert logging["DestinationBucketName"] == {"Ref": "AccessLogBucket"}
    for name, bucket in buckets.items():
        properties = bucket["Properties"]
        assert bucket["DeletionPolicy"] == bucket["UpdateReplacePolicy"] == "Retain"
        assert set(properties["PublicAccessBlockConfiguration"].values()) == {True}
        assert len(properties["PublicAccessBlockConfiguration"]) == 4
        (rule,) = properties["BucketEncryption"]["ServerSideEncryptionConfiguration"]
        encryption = rule["ServerSideEncryptionByDefault"]
        # S3 delivers access logs only where its own keys encrypt them.
        ours = "Key" in json.dumps(encryption.get("KMSMasterKeyID"))
        assert ours or (name == "AccessLogBucket" and encryption["SSEAlgorithm"] == "AES256")
        assert properties["VersioningConfiguration"]["Status"] == "Enabled"
        rules = properties["LifecycleConfiguration"]["Rules"]
        assert any("AbortIncompleteMultipartUpload" in one and one["Status"] == "Enabled" for one in rules)
        (policy,) = [one for one in policies if one["Bucket"] == {"Ref": name}]
        (tls,) = [one for one in policy["PolicyDocument"]["Statement"] if one["Sid"] == "TlsOnly"]
        assert (tls["Effect"], tls["Action"]) == ("Deny", "s3:*")
        assert tls["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}


def test_everything_that_nightly_imports_is_exported() -> None:
    outputs = load(EMR / "cloudformation" / "foundation.yaml")["Outputs"]
    exported = {
        one["Export"]["Name"]["Fn::Sub"].split("-")[-1] for one in outputs.values() if "Export" in one
    }
    for name in ("nightly.yaml", "studio.yaml"):
        text = (EMR / "cloudformation" / name).read_text("utf-8")
        imported = {part.split("}-")[1].split('"')[0].split()[0] for part in text.split("ImportValue")[1:]}
        assert imported
        assert imported <= exported


def test_the_primary_nodes_of_emr_7_reach_the_service() -> None:
    rule = load(EMR / "cloudformation" / "foundation.yaml")["Resources"]["ServiceFromPrimary"]["Properties"]
    assert (rule["FromPort"], rule["ToPort"]) == (9443, 9443)
    assert rule["GroupId"] == {"Ref": "ServiceGroup"}
    assert rule["SourceSecurityGroupId"] == {"Ref": "PrimaryGroup"}


def test_the_key_of_encryption_between_nodes_is_read_only_by_roles_whose_clusters_encrypt() -> None:
    readers = {
        owner.split()[-1]
        for template, owner, statement in statements()
        if template == "foundation" and statement["Effect"] == "Allow"
        for resource in as_list(statement["Resource"])
        if "certificates" in json.dumps(resource) or json.dumps(resource).endswith('CodeBucket.Arn}/*"}')
    }
    assert readers == {"PipelineRole", "NotebookRole"}


def test_the_schedules_role_uses_no_cluster_but_ours() -> None:
    (statement,) = [
        statement
        for template, owner, statement in statements()
        if template == "nightly" and "elasticmapreduce:TerminateJobFlows" in as_list(statement["Action"])
    ]
    assert statement["Condition"] == {"StringEquals": {"elasticmapreduce:ResourceTag/project": "slicemill"}}


def test_every_role_can_be_bounded() -> None:
    for path in TEMPLATES:
        for name, resource in load(path)["Resources"].items():
            if resource["Type"] == "AWS::IAM::Role":
                assert "PermissionsBoundary" in resource["Properties"], (path.name, name)


def test_the_state_machine_logs_without_what_its_states_were_given() -> None:
    machine = load(EMR / "cloudformation" / "nightly.yaml")["Resources"]["Nightly"]["Properties"]
    assert machine["LoggingConfiguration"]["IncludeExecutionData"] is False
