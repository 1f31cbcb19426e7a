"""The request of a cluster as an `aws emr create-cluster` command line, whose options have other names."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from typing import Any


def cli_command(request: dict[str, Any], region: str) -> str:
    """The same request as an `aws emr create-cluster` command line, whose option names differ."""
    steps = _cli_steps(request)
    stays_alive = request["Instances"]["KeepJobFlowAliveWhenNoSteps"]
    options: list[tuple[str, Sequence[str]]] = [
        ("--region", [region]),
        ("--name", [request["Name"]]),
        ("--release-label", [request["ReleaseLabel"]]),
        ("--applications", [f"Name={application['Name']}" for application in request["Applications"]]),
        ("--service-role", [request["ServiceRole"]]),
        ("--ec2-attributes", [json.dumps(_cli_attributes(request))]),
        *_cli_nodes(request),
        ("--ebs-root-volume-size", [str(request["EbsRootVolumeSize"])]),
        ("--configurations", [json.dumps(request["Configurations"])]),
        ("--bootstrap-actions", [json.dumps(_cli_bootstrap(request))]),
        *([("--steps", [json.dumps(steps)])] if steps else []),
        ("--step-concurrency-level", [str(request["StepConcurrencyLevel"])]),
        ("--security-configuration", [request["SecurityConfiguration"]]),
        ("--log-uri", [request["LogUri"]]),
        ("--log-encryption-kms-key-id", [request["LogEncryptionKmsKeyId"]]),
        ("--auto-termination-policy", [f"IdleTimeout={request['AutoTerminationPolicy']['IdleTimeout']}"]),
        ("--tags", [f"{tag['Key']}={tag['Value']}" for tag in request["Tags"]]),
        ("--no-auto-terminate" if stays_alive else "--auto-terminate", []),
    ]
    lines = [" ".join([name, *map(shlex.quote, values)]) for name, values in options]
    return " \\\n  ".join(["aws emr create-cluster", *lines]) + "\n"


def _cli_attributes(request: dict[str, Any]) -> dict[str, Any]:
    instances = request["Instances"]
    groups = ("EmrManagedMasterSecurityGroup", "EmrManagedSlaveSecurityGroup", "ServiceAccessSecurityGroup")
    subnets = instances.get("Ec2SubnetIds")
    return {
        **({"SubnetIds": subnets} if subnets else {"SubnetId": instances["Ec2SubnetId"]}),
        "InstanceProfile": request["JobFlowRole"],
        **{group: instances[group] for group in groups},
    }


def _cli_nodes(request: dict[str, Any]) -> list[tuple[str, Sequence[str]]]:
    fleets = request["Instances"].get("InstanceFleets")
    if fleets:
        return [("--instance-fleets", [json.dumps(fleets)])]
    return [("--instance-groups", [json.dumps(_cli_groups(request))])]


def _cli_groups(request: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        {
            ("InstanceGroupType" if key == "InstanceRole" else key): value
            for key, value in group.items()
            if key != "Market"
        }
        for group in request["Instances"]["InstanceGroups"]
    ]


def _cli_bootstrap(request: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        {"Name": action["Name"], **action["ScriptBootstrapAction"]} for action in request["BootstrapActions"]
    ]


def _cli_steps(request: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        {
            "Type": "CUSTOM_JAR",
            "Name": step["Name"],
            "ActionOnFailure": step["ActionOnFailure"],
            **step["HadoopJarStep"],
        }
        for step in request["Steps"]
    ]
