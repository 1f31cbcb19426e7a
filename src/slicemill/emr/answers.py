"""What EMR answers, as values: clusters and steps with what a person wants to know of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

_DONE = ("COMPLETED", "RUNNING", "WAITING")
_FAILED = ("FAILED", "CANCELLED", "INTERRUPTED")
_OPEN = ("PENDING", "RUNNING", "CANCEL_PENDING")
_ENDED = ("TERMINATING", "TERMINATED", "TERMINATED_WITH_ERRORS")


@dataclass(frozen=True)
class StepState:
    """A step of a cluster."""

    id: str
    name: str
    state: str
    reason: Mapping[str, str] = field(default_factory=dict)
    """Why it is in a bad state; empty otherwise."""

    @classmethod
    def of(cls, answer: Mapping[str, Any]) -> StepState:
        """From an element of ListSteps' answer."""
        status = answer["Status"]
        return cls(answer["Id"], answer["Name"], status["State"], _reason(status))

    @property
    def is_open(self) -> bool:
        """Whether it waits or works."""
        return self.state in _OPEN

    @property
    def has_failed(self) -> bool:
        """Whether it ended without having done its work."""
        return self.state in _FAILED


@dataclass(frozen=True)
class ClusterState:
    """A cluster."""

    id: str
    name: str
    state: str
    started: str = ""
    """When it was asked for, as AWS writes it."""
    reason: Mapping[str, str] = field(default_factory=dict)
    """Why it is in a bad state; empty otherwise."""
    profile: str = ""
    """Name of its instance profile."""
    log_uri: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, answer: Mapping[str, Any]) -> ClusterState:
        """From a cluster of DescribeCluster's or ListClusters' answer."""
        status = answer["Status"]
        profile = answer.get("Ec2InstanceAttributes", {}).get("IamInstanceProfile", "")
        return cls(
            answer["Id"],
            answer.get("Name", ""),
            status["State"],
            str(status.get("Timeline", {}).get("CreationDateTime", "")),
            _reason(status),
            profile.rpartition("/")[2],
            answer.get("LogUri", ""),
            {tag["Key"]: tag["Value"] for tag in answer.get("Tags", ())},
        )

    @property
    def has_ended(self) -> bool:
        """Whether it takes no more steps."""
        return self.state in _ENDED


def _reason(status: Mapping[str, Any]) -> dict[str, str]:
    reason = {**status.get("StateChangeReason", {}), **status.get("FailureDetails", {})}
    return {} if status["State"] in _DONE else {key: str(value) for key, value in reason.items()}
