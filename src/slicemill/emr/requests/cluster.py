"""The RunJobFlow request of a cluster, from its shape, its site and its steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from slicemill.emr.capacity.releases import DEFAULT_RELEASE, release
from slicemill.emr.capacity.shapes import SHAPES, Shape, shape
from slicemill.emr.requests.configurations import configurations
from slicemill.emr.requests.job_settings import RANK_JOBS, JobName
from slicemill.emr.requests.steps import Step, requests
from slicemill.emr.site import Site, check_architecture, check_environment
from slicemill.errors import ConfigError

#: The tag by which EMR's managed service policy knows what it may touch.
MANAGED_TAG = "for-use-with-amazon-emr-managed-policies"
PROJECT_TAG = "project"
#: What a running cluster says of its own nodes.
SHAPE_TAG, CORE_TAG, COUNT_TAG = "slicemill-shape", "slicemill-core-types", "slicemill-core-and-spot-count"
#: Jobs that write models, with a role that may write nothing else.
TRAINING_JOBS: tuple[JobName, ...] = ("train", "crossval", "sweep", "committee")


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
    subnets: tuple[str, ...] = ()
    """Subnets to choose from; the site's by default. Only a fleet takes several."""
    allow_untried: bool = False
    """Take a release whose Spark line was never tested."""

    def __post_init__(self) -> None:
        release(self.release_label, allow_untried=self.allow_untried)
        check_environment(self.environment)
        check_architecture(self.environment, self.shape.core_instance)
        if len(self.subnets) > 1 and not self.shape.is_fleet:
            raise ConfigError(
                "only a fleet chooses among subnets",
                expected="one --subnet, or several --core-type",
                found=", ".join(self.subnets),
            )
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
        if self.shape.spot_count and jobs & set(RANK_JOBS):
            raise ConfigError(
                "a Spot node that is lost ends every rank",
                expected="no --spot-count with train",
                found=self.shape.spot_count,
            )
        if self.shape.name == "gpu" and not jobs <= {*RANK_JOBS, "score"}:
            raise ConfigError(
                "only jobs that train or score use GPUs",
                expected="--shape cpu",
                found=", ".join(sorted(jobs)),
            )

    @property
    def trains(self) -> bool:
        """Whether the cluster is for training."""
        return for_training(self.shape, [step.job for step in self.steps])

    @property
    def profile(self) -> str:
        """Instance profile, by what the cluster is for."""
        return profile_for(self.site, self.shape, [step.job for step in self.steps])

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
            "Tags": tags(self.shape),
        }

    def _instances(self) -> dict[str, Any]:
        subnets = self.subnets or (self.site.subnet_id,)
        return {
            **({"Ec2SubnetIds": list(subnets)} if self.shape.is_fleet else {"Ec2SubnetId": subnets[0]}),
            "EmrManagedMasterSecurityGroup": self.site.primary_group,
            "EmrManagedSlaveSecurityGroup": self.site.core_group,
            "ServiceAccessSecurityGroup": self.site.service_group,
            "KeepJobFlowAliveWhenNoSteps": self.long_lived,
            "TerminationProtected": False,
            **self._nodes(),
        }

    def _nodes(self) -> dict[str, Any]:
        nodes = self.shape
        if not nodes.is_fleet:
            groups = [
                self._group("MASTER", nodes.primary, 1),
                self._group("CORE", nodes.core_types[0], nodes.core_count),
            ]
            return {"InstanceGroups": groups}
        fleets = [
            self._fleet("MASTER", (nodes.primary,), on_demand=1),
            self._fleet("CORE", nodes.core_types, on_demand=nodes.core_count),
        ]
        if nodes.spot_count:
            fleets.append(self._fleet("TASK", nodes.core_types, spot=nodes.spot_count))
        return {"InstanceFleets": fleets}

    def _fleet(self, role: str, kinds: Sequence[str], *, on_demand: int = 0, spot: int = 0) -> dict[str, Any]:
        specification = {
            "TimeoutDurationMinutes": 20,
            # The night goes on at the on-demand price rather than not at all.
            "TimeoutAction": "SWITCH_TO_ON_DEMAND",
            "AllocationStrategy": "capacity-optimized",
        }
        return {
            "Name": role.lower(),
            "InstanceFleetType": role,
            "TargetOnDemandCapacity": on_demand,
            "TargetSpotCapacity": spot,
            "InstanceTypeConfigs": [
                {"InstanceType": kind, "WeightedCapacity": 1, "EbsConfiguration": self._volumes()}
                for kind in kinds
            ],
            **({"LaunchSpecifications": {"SpotSpecification": specification}} if spot else {}),
        }

    def _volumes(self) -> dict[str, Any]:
        volume = {"VolumeType": "gp3", "SizeInGB": self.shape.volume_gib}
        return {"EbsBlockDeviceConfigs": [{"VolumeSpecification": volume, "VolumesPerInstance": 1}]}

    def _group(self, role: str, kind: str, count: int) -> dict[str, Any]:
        return {
            "Name": role.lower(),
            "InstanceRole": role,
            "InstanceType": kind,
            "InstanceCount": count,
            # A lost Spot node ends every rank of a training, and a core node's loss takes HDFS blocks along.
            "Market": "ON_DEMAND",
            "EbsConfiguration": self._volumes(),
        }

    def _bootstrap(self) -> list[dict[str, Any]]:
        def action(name: str, *arguments: str) -> dict[str, Any]:
            script = {"Path": self.site.code("bootstrap", f"{name}.sh"), "Args": list(arguments)}
            return {"Name": name, "ScriptBootstrapAction": script}

        gpu = [action("gpu")] if self.shape.has_gpus else []
        return [action("environment", self.environment), *gpu]


def for_training(nodes: Shape, jobs: Sequence[JobName]) -> bool:
    """Whether a cluster is for training: by its jobs, or before it has any by its GPUs."""
    return any(job in TRAINING_JOBS for job in jobs) if jobs else nodes.has_gpus


def profile_for(site: Site, nodes: Shape, jobs: Sequence[JobName]) -> str:
    """Instance profile of a cluster for these jobs."""
    if nodes.name == "notebook":
        return site.notebook_profile
    return site.training_profile if for_training(nodes, jobs) else site.pipeline_profile


def tags(nodes: Shape | None = None) -> list[dict[str, str]]:
    """Tags of every cluster: the managed policy's, and ours, which roles and cost reports go by.

    With `nodes`, those too, so that steps which are added later fit them (`shape_of`).
    """
    common = {MANAGED_TAG: "true", PROJECT_TAG: "slicemill"}
    labels = (
        {}
        if nodes is None
        else {
            SHAPE_TAG: nodes.name,
            CORE_TAG: " ".join(nodes.core_types),
            COUNT_TAG: f"{nodes.core_count} {nodes.spot_count}",
        }
    )
    return [{"Key": key, "Value": value} for key, value in (common | labels).items()]


def shape_of(cluster_tags: Mapping[str, str]) -> Shape | None:
    """The shape that a cluster of ours was started with, by its tags; None of another's cluster."""
    name = next((name for name in SHAPES if name == cluster_tags.get(SHAPE_TAG)), None)
    if name is None or CORE_TAG not in cluster_tags or COUNT_TAG not in cluster_tags:
        return None
    core_count, spot_count = map(int, cluster_tags[COUNT_TAG].split())
    return shape(name, cluster_tags[CORE_TAG].split(), core_count, spot_count)
