"""S3 with the roles of our own stack: a request that its role may not make is answered 403.

The policies of each role come from our templates, filled in with the names of a site; moto's IAM
evaluates them. An access key stands for a role, as an instance profile does on a node. Bucket policies
are left out: they ask for TLS, which a server on loopback does without.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote
from xml.etree import ElementTree

from cfnlint.decode import cfn_yaml
from moto.iam.access_control import IAMPolicy, PermissionResult
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
from werkzeug.serving import BaseWSGIServer, make_server

from slicemill.emr.site import Site, output_key

TEMPLATES = Path(__file__).parents[2] / "emr" / "cloudformation"
#: Key of whoever sets the account up: may do everything.
OPERATOR = "OPERATOR"
#: Role of the state machine, whose requests moto's Step Functions signs with this key.
NIGHT, NIGHT_KEY = "NightlyRole", "ak"
ROLES = ("PipelineRole", "TrainingRole", "NotebookRole", "ServerlessRole")

_CREDENTIAL = re.compile(r"Credential=(?P<key>[^/]+)/\d{8}/[^/]+/(?P<service>[^/]+)/")
Permission = tuple[str, str]
Environ = dict[str, Any]
StartResponse = Callable[..., Any]


@dataclass(frozen=True)
class Refusal:
    """A request that was answered 403."""

    role: str
    action: str
    resource: str


@dataclass
class Gate:
    """WSGI application before moto's that lets a request through if its role may make it."""

    site: Site
    refusals: list[Refusal] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._moto = DomainDispatcherApplication(create_backend_app)
        self._policies = role_policies(self.site)

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        """Answer a request, as WSGI has it."""
        match = _CREDENTIAL.search(environ.get("HTTP_AUTHORIZATION", ""))
        key, service = (match["key"], match["service"]) if match else ("", "")
        if key == OPERATOR:
            return self._moto(environ, start_response)
        role = NIGHT if key == NIGHT_KEY else key
        if service != "s3" and role == NIGHT:
            return self._moto(environ, start_response)
        # Nodes speak to no other service.
        needs = permissions(environ, self.site.key_arn) if service == "s3" else [(f"{service}:*", "*")]
        for action, resource in needs:
            if not self.may(role, action, resource):
                self.refusals.append(Refusal(role, action, resource))
                return _denied(environ, start_response, f"{role} may not {action} on {resource}")
        return self._moto(environ, start_response)

    def may(self, role: str, action: str, resource: str) -> bool:
        """Whether the policies of a role allow an action on a resource, given by its ARN."""
        results = [policy.is_action_permitted(action, resource) for policy in self._policies.get(role, ())]
        return PermissionResult.PERMITTED in results and PermissionResult.DENIED not in results


def permissions(environ: Environ, key_arn: str) -> list[Permission]:
    """What IAM asks for a request of S3, in path style: actions with the ARN of their resource."""
    bucket, _, key = unquote(environ["PATH_INFO"]).lstrip("/").partition("/")
    query = dict(parse_qsl(environ.get("QUERY_STRING", ""), keep_blank_values=True))
    arn, method = f"arn:aws:s3:::{bucket}", environ["REQUEST_METHOD"]
    if not key:
        return _bucket_permissions(environ, arn, method, query)
    resource = f"{arn}/{key}"
    if method in ("GET", "HEAD"):
        action = "s3:ListMultipartUploadParts" if "uploadId" in query else "s3:GetObject"
        return [(action, resource), ("kms:Decrypt", key_arn)]
    if method == "DELETE":
        return [("s3:AbortMultipartUpload" if "uploadId" in query else "s3:DeleteObject", resource)]
    source = unquote(environ.get("HTTP_X_AMZ_COPY_SOURCE", "")).lstrip("/")
    copy = [("s3:GetObject", f"arn:aws:s3:::{source}")] if source else []
    return [("s3:PutObject", resource), ("kms:GenerateDataKey", key_arn), *copy]


def _bucket_permissions(
    environ: Environ, arn: str, method: str, query: Mapping[str, str]
) -> list[Permission]:
    if method == "POST" and "delete" in query:
        return [("s3:DeleteObject", f"{arn}/{key}") for key in _keys_to_delete(environ)]
    if method not in ("GET", "HEAD"):
        return [("s3:CreateBucket", arn)]
    names = {"location": "s3:GetBucketLocation", "uploads": "s3:ListBucketMultipartUploads"}
    return [(next((names[name] for name in names if name in query), "s3:ListBucket"), arn)]


def _keys_to_delete(environ: Environ) -> Iterator[str]:
    body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
    environ["wsgi.input"] = BytesIO(body)
    for element in ElementTree.fromstring(body).iter():
        if element.tag.endswith("Key"):
            yield element.text or ""


def _denied(environ: Environ, start_response: StartResponse, message: str) -> Iterable[bytes]:
    # Read what was sent, or the client may see a broken connection in place of the answer.
    environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
    body = f"<Error><Code>AccessDenied</Code><Message>{message}</Message></Error>".encode()
    start_response("403 Forbidden", [("Content-Type", "application/xml"), ("Content-Length", str(len(body)))])
    return [b"" if environ["REQUEST_METHOD"] == "HEAD" else body]


def serve(gate: Gate, port: int = 0) -> BaseWSGIServer:
    """A server on loopback; `serve_forever` runs it."""
    return make_server("127.0.0.1", port, gate, threaded=True, request_handler=MotoRequestHandler)


def role_policies(site: Site) -> dict[str, list[IAMPolicy]]:
    """Of each role its policies as IAM gets them: the one of all nodes, and its own."""
    resources = cfn_yaml.load(str(TEMPLATES / "foundation.yaml"))["Resources"]
    nightly = cfn_yaml.load(str(TEMPLATES / "nightly.yaml"))["Resources"]
    outputs = {output_key(name): str(value) for name, value in asdict(site).items()}

    def policies(role: str) -> list[IAMPolicy]:
        properties = (resources | nightly)[role]["Properties"]
        attached = [resources[item["Ref"]]["Properties"] for item in properties.get("ManagedPolicyArns", ())]
        documents = [row["PolicyDocument"] for row in (*attached, *properties["Policies"])]
        return [IAMPolicy(json.dumps(fill(document, outputs))) for document in documents]

    return {role: policies(role) for role in (*ROLES, NIGHT)}


def fill(value: Any, outputs: Mapping[str, str]) -> Any:
    """A value of a template with CloudFormation's functions done, by the foundation's outputs."""
    if isinstance(value, list):
        return [fill(item, outputs) for item in value]
    if not isinstance(value, dict):
        return value
    match value:
        case {"Fn::If": [_, _, _]}:
            # The one choice in a node's policy is whose key it is.
            return outputs["KeyArn"]
        case {"Fn::GetAtt": [name, "Arn"]}:
            return f"arn:aws:s3:::{outputs[name]}"
        case {"Fn::ImportValue": {"Fn::Sub": text}}:
            return outputs.get(text.rpartition("-")[2], "*")
        case {"Fn::Sub": [text, names]}:
            return _substitute(text, outputs | fill(names, outputs))
        case {"Fn::Sub": text}:
            return _substitute(text, outputs)
        case {"Ref": name}:
            return outputs.get(name, "*")
        case _:
            return {key: fill(item, outputs) for key, item in value.items()}


def _substitute(text: str, names: Mapping[str, str]) -> str:
    names = names | {"AWS::Partition": "aws", "AWS::Region": names["Region"], "AWS::AccountId": "*"}

    def name(match: re.Match[str]) -> str:
        arn = "arn:aws:s3:::" if match[2] else ""
        return arn + names[match[1]]

    return re.sub(r"\$\{([\w:]+)(\.Arn)?\}", name, text)
