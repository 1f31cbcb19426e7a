"""The RunJobFlow request of a cluster, from its shape, its site and its steps."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from slicemill.emr.capacity.releases import DEFAULT_RELEASE, release
from slicemill.emr.capacity.shapes import Shape
from slicemill.emr.requests.configurations import configurations
from slicemill.emr.requests.job_settings import JobName
from slicemill.emr.requests.steps import Step, requests
from slicemill.emr.site import Site, check_environment
from slicemill.errors import ConfigError

#: The tag by which EMR's managed service policy knows what it may touch.
MANAGED_TAG = "for-use-with-amazon-emr-managed-policies"
PROJECT_TAG = "project"
#: Jobs that write models, with a role that may write nothing else.
TRAINING_JOBS: tuple[JobName, ...] = ("train",)


@dataclass(frozen=True)
class Cluster:
    """A cluster that lives for its steps, or until it was idle for its shape's time."""

    name: str
    site: Site
    shape: Shape
    environment: str
    """URI of the packed environment; the last part of its name is its SHA-256."""
    steps: tuple[Step, ...] = ()
    long_lived: bool = False
    release_label: str = DEFAULT_RELEASE
    step_concurrency: int = 1

    def __post_init__(self) -> None:
        release(self.release_label)
        check_environment(self.environment)
        if not self.steps and not self.long_lived:
            raise ConfigError(
                "a cluster without steps would end at once", expected="--job or --keep", found="neither"
            )
        jobs = {step.job for step in self.steps}
        if jobs & set(TRAINING_JOBS) and jobs - set(TRAINING_JOBS):
            raise ConfigError(
                "training has a role of its own, so it has a cluster of its own",
                expected=f"{', '.join(TRAINING_JOBS)} alone, or the other jobs",
                found=", ".join(sorted(jobs)),
            )
        if self.shape.name == "gpu" and not jobs <= {"train", "score"}:
            raise ConfigError(
                "only train and score use GPUs", expected="--shape cpu", found=", ".join(sorted(jobs))
            )

    @property
    def trains(self) -> bool:
        """Whether the cluster is for training."""
        if not self.steps:
            return self.shape.has_gpus
        return any(step.job in TRAINING_JOBS for step in self.steps)

    @property
    def profile(self) -> str:
        """Instance profile, by what the cluster is for."""
        if self.shape.name == "notebook":
            return self.site.notebook_profile
        return self.site.training_profile if self.trains else self.site.pipeline_profile

    def request(self) -> dict[str, Any]:
        """Keyword arguments of boto3's `run_job_flow`. Raises ConfigError for steps that EMR would refuse."""
        action = "CANCEL_AND_WAIT" if self.long_lived else "TERMINATE_CLUSTER"
        if self.step_concurrency > 1:
            action = "CONTINUE"
        return {
            "Name": self.name,
            "ReleaseLabel": self.release_label,
            "Applications": [{"Name": name} for name in self.shape.applications],
            "Instances": self._instances(),
            "Configurations": configurations(self.shape, self.site),
            "BootstrapActions": self._bootstrap(),
            # mypy widens the conditional to str.
            "Steps": requests(self.steps, self.site, self.shape, action, self.step_concurrency),  # type: ignore[arg-type]
            "StepConcurrencyLevel": self.step_concurrency,
            "ServiceRole": self.site.service_role,
            "JobFlowRole": self.profile,
            # Ranks refuse Spark's TLS, which in-transit encryption may switch on: see emr/README.md.
            "SecurityConfiguration": (
                self.site.training_security_configuration if self.trains else self.site.security_configuration
            ),
            "LogUri": f"s3://{self.site.log_bucket}/clusters/",
            "LogEncryptionKmsKeyId": self.site.key_arn,
            "AutoTerminationPolicy": {"IdleTimeout": self.shape.idle_seconds},
            "EbsRootVolumeSize": self.shape.root_gib,
            "VisibleToAllUsers": True,
            "Tags": tags(),
        }

    def _instances(self) -> dict[str, Any]:
        return {
            "Ec2SubnetId": self.site.subnet_id,
            "EmrManagedMasterSecurityGroup": self.site.primary_group,
            "EmrManagedSlaveSecurityGroup": self.site.core_group,
            "ServiceAccessSecurityGroup": self.site.service_group,
            "KeepJobFlowAliveWhenNoSteps": self.long_lived,
            "TerminationProtected": False,
            "InstanceGroups": [
                self._group("MASTER", self.shape.primary, 1),
                self._group("CORE", self.shape.core, self.shape.core_count),
            ],
        }

    def _group(self, role: str, kind: str, count: int) -> dict[str, Any]:
        volume = {"VolumeType": "gp3", "SizeInGB": self.shape.volume_gib}
        return {
            "Name": role.lower(),
            "InstanceRole": role,
            "InstanceType": kind,
            "InstanceCount": count,
            # A lost Spot node ends every rank of a training, and a core node's loss takes HDFS blocks along.
            "Market": "ON_DEMAND",
            "EbsConfiguration": {
                "EbsBlockDeviceConfigs": [{"VolumeSpecification": volume, "VolumesPerInstance": 1}]
            },
        }

    def _bootstrap(self) -> list[dict[str, Any]]:
        def action(name: str, *arguments: str) -> dict[str, Any]:
            script = {"Path": self.site.code("bootstrap", f"{name}.sh"), "Args": list(arguments)}
            return {"Name": name, "ScriptBootstrapAction": script}

        gpu = [action("gpu")] if self.shape.has_gpus else []
        return [action("environment", self.environment), *gpu]


def tags() -> list[dict[str, str]]:
    """Tags of every cluster: the managed policy's, and ours, which roles and cost reports go by."""
    return [{"Key": MANAGED_TAG, "Value": "true"}, {"Key": PROJECT_TAG, "Value": "slicemill"}]


def cli_command(request: dict[str, Any], region: str) -> str:
    """The same request as an `aws emr create-cluster` command line, whose option names differ."""
    steps = _cli_steps(request)
    kept = request["Instances"]["KeepJobFlowAliveWhenNoSteps"]
    options: list[tuple[str, Sequence[str]]] = [
        ("--region", [region]),
        ("--name", [request["Name"]]),
        ("--release-label", [request["ReleaseLabel"]]),
        ("--applications", [f"Name={one['Name']}" for one in request["Applications"]]),
        ("--service-role", [request["ServiceRole"]]),
        ("--ec2-attributes", [json.dumps(_cli_attributes(request))]),
        ("--instance-groups", [json.dumps(_cli_groups(request))]),
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
        ("--no-auto-terminate" if kept else "--auto-terminate", []),
    ]
    lines = [" ".join([name, *map(shlex.quote, values)]) for name, values in options]
    return " \\\n  ".join(["aws emr create-cluster", *lines]) + "\n"


def _cli_attributes(request: dict[str, Any]) -> dict[str, str]:
    instances = request["Instances"]
    groups = ("EmrManagedMasterSecurityGroup", "EmrManagedSlaveSecurityGroup", "ServiceAccessSecurityGroup")
    return {
        "SubnetId": instances["Ec2SubnetId"],
        "InstanceProfile": request["JobFlowRole"],
        **{group: instances[group] for group in groups},
    }


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
