"""What EMR leaves in the foundation's network, and how it is removed before the stack is deleted.

EMR writes rules into its three managed security groups that refer to each other, and on release 8 an endpoint
into the network. CloudFormation knows neither: it deletes the groups one by one, and ends in DELETE_FAILED.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from slicemill.emr.client import Request
from slicemill.emr.site import Site

#: Part of the service name of the endpoint that EMR makes in a private subnet.
_ENDPOINT_SERVICE = "emr-service"
_GONE = ("deleting", "deleted")


@dataclass(frozen=True)
class Leftovers:
    """Rules and endpoints that EMR made."""

    ingress: Mapping[str, tuple[str, ...]]
    """Ids of incoming rules by their security group."""
    egress: Mapping[str, tuple[str, ...]]
    """Ids of outgoing rules by their security group."""
    endpoints: tuple[str, ...]

    @property
    def rules(self) -> int:
        """Number of rules."""
        return sum(map(len, (*self.ingress.values(), *self.egress.values())))


def questions(site: Site) -> tuple[Request, Request]:
    """Requests of EC2 that find the rules of the site's groups, and the endpoints of its subnet's network."""
    groups = [site.primary_group, site.core_group, site.service_group]
    rules = {"Filters": [{"Name": "group-id", "Values": groups}]}
    return ("describe_security_group_rules", rules), ("describe_subnets", {"SubnetIds": [site.subnet_id]})


def endpoints_of(vpc: str) -> Request:
    """The request for a network's endpoints."""
    return "describe_vpc_endpoints", {"Filters": [{"Name": "vpc-id", "Values": [vpc]}]}


def leftovers(
    rules: Sequence[Mapping[str, Any]], endpoints: Sequence[Mapping[str, Any]], site: Site
) -> Leftovers:
    """What of a network's rules and endpoints is EMR's: rules that name one of the three groups."""
    groups = {site.primary_group, site.core_group, site.service_group}
    ingress: dict[str, tuple[str, ...]] = {}
    egress: dict[str, tuple[str, ...]] = {}
    for rule in rules:
        if rule.get("ReferencedGroupInfo", {}).get("GroupId") in groups:
            side = egress if rule["IsEgress"] else ingress
            side[rule["GroupId"]] = (*side.get(rule["GroupId"], ()), rule["SecurityGroupRuleId"])
    ours = tuple(
        endpoint["VpcEndpointId"]
        for endpoint in endpoints
        if _ENDPOINT_SERVICE in endpoint["ServiceName"] and endpoint["State"].lower() not in _GONE
    )
    return Leftovers(ingress, egress, ours)


def removals(remains: Leftovers) -> list[Request]:
    """Requests of EC2 that remove leftovers; none if there are none."""
    requests: list[Request] = []
    for operation, side in (
        ("revoke_security_group_ingress", remains.ingress),
        ("revoke_security_group_egress", remains.egress),
    ):
        requests += [
            (operation, {"GroupId": group, "SecurityGroupRuleIds": list(ids)})
            for group, ids in sorted(side.items())
        ]
    if remains.endpoints:
        requests.append(("delete_vpc_endpoints", {"VpcEndpointIds": list(remains.endpoints)}))
    return requests
