"""Nights of the state machine on one machine, under the roles of our own templates.

moto interprets the machine and keeps clusters, steps, objects, metrics and messages; the gate before it
answers 403 to what a role may not do. Whoever makes the account says how a step's words are run, with the
variables of its cluster's role.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import boto3
from gate import OPERATOR, Gate, serve
from moto.core.config import default_user_config
from moto.stepfunctions.parser.api import HistoryEventType, TaskFailedEventDetails
from moto.stepfunctions.parser.asl.component.common.error_name.failure_event import (
    FailureEvent,
    FailureEventException,
)
from moto.stepfunctions.parser.asl.component.common.error_name.states_error_name import StatesErrorName
from moto.stepfunctions.parser.asl.component.common.error_name.states_error_name_type import (
    StatesErrorNameType,
)
from moto.stepfunctions.parser.asl.component.common.retry import retrier_decl
from moto.stepfunctions.parser.asl.component.state.exec.state_task.service import (
    state_task_service_aws_sdk as sdk,
)
from moto.stepfunctions.parser.asl.component.state.exec.state_task.service import (
    state_task_service_unsupported as integrations,
)
from moto.stepfunctions.parser.asl.eval.event.event_detail import EventDetails

from slicemill.emr.requests.nightly import state_machine, substitutions
from slicemill.emr.site import Site, output_key, read_site

ROOT = Path(__file__).parents[2]
RUN = "first"
ENVIRONMENT = "environments/slicemill-0.0.0-cpu-x86_64-" + "0" * 64 + ".tar.gz"

Run = Callable[[Sequence[str], Mapping[str, str]], int]


@dataclass(frozen=True)
class Night:
    """How a night ended."""

    status: str
    states: tuple[str, ...]
    """States that were entered, in order."""
    messages: tuple[str, ...]
    clusters: int
    """Clusters that the account has had so far."""
    error: str = ""


@dataclass
class Account:
    """An account of AWS on this machine, with the buckets of the example site."""

    site: Site
    gate: Gate
    endpoint: str
    run: Run
    """Runs a step's words with variables and returns the exit code."""
    max_bad_fraction: float = 0.1
    roles: dict[str, str] = field(default_factory=dict)
    """Of each cluster the role of its nodes."""

    def client(self, service: str, key: str = OPERATOR) -> Any:
        """A client of a service, by the key of a role; the operator's by default."""
        return boto3.client(service, **self._access(key))

    def _access(self, key: str) -> dict[str, str]:
        return {
            "endpoint_url": self.endpoint,
            "region_name": self.site.region,
            "aws_access_key_id": key,
            "aws_secret_access_key": "secret",
        }

    def variables(self, role: str) -> dict[str, str]:
        """What a process needs to be a node with this role."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": role,
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_DEFAULT_REGION": self.site.region,
        }

    def night(self, name: str) -> Night:
        """Start the state machine by this name, twice, as a schedule may do, and wait for its end."""
        topic = self.client("sns").create_topic(Name=name)["TopicArn"]
        queue = self.client("sqs").create_queue(QueueName=name)["QueueUrl"]
        queue_arn = f"arn:aws:sqs:{self.site.region}:123456789012:{name}"
        self.client("sns").subscribe(TopicArn=topic, Protocol="sqs", Endpoint=queue_arn)
        states = self.client("stepfunctions")
        machine = states.create_state_machine(
            name=name, definition=self._definition(topic), roleArn="arn:aws:iam::123456789012:role/nightly"
        )["stateMachineArn"]
        execution = states.start_execution(stateMachineArn=machine, name=name, input="{}")["executionArn"]
        second = states.start_execution(stateMachineArn=machine, name=name, input="{}")["executionArn"]
        if second != execution:
            raise SystemExit(f"night.py: {name} ran twice")
        while (answer := states.describe_execution(executionArn=execution))["status"] == "RUNNING":
            time.sleep(0.1)
        events = states.get_execution_history(executionArn=execution, maxResults=1000)["events"]
        names = [
            event["stateEnteredEventDetails"]["name"]
            for event in events
            if "stateEnteredEventDetails" in event
        ]
        bodies = self.client("sqs").receive_message(QueueUrl=queue).get("Messages", ())
        messages = tuple(json.loads(body["Body"])["Message"] for body in bodies)
        clusters = len(self.client("emr").list_clusters()["Clusters"])
        return Night(answer["status"], tuple(names), messages, clusters, answer.get("error", ""))

    def _definition(self, topic: str) -> str:
        marks = {name: getattr(self.site, _field(name), "") for name in substitutions()}
        marks |= {
            "Environment": self.site.code(ENVIRONMENT),
            "Run": RUN,
            "AlarmTopicArn": topic,
            "MaxBadFraction": str(self.max_bad_fraction),
        }
        text = json.dumps(state_machine()).replace('.sync"', '"')
        for name, value in marks.items():
            text = text.replace(f"${{{name}}}", value)
        return text

    def task(
        self, service: Any, env: Any, runtime: Any, parameters: dict[str, Any], credentials: Any
    ) -> None:
        """What EMR does for a state: moto keeps it, and a step is run."""
        emr, action = self.client("emr"), service.resource.api_action
        if action == "createCluster":
            cluster = emr.run_job_flow(**parameters)["JobFlowId"]
            self.roles[cluster] = self._role(parameters["JobFlowRole"])
            env.stack.append({"ClusterId": cluster})
        elif action == "addStep":
            cluster, step = parameters["ClusterId"], parameters["Step"]
            emr.add_job_flow_steps(JobFlowId=cluster, Steps=[step])
            code = self.run(step["HadoopJarStep"]["Args"], self.variables(self.roles[cluster]))
            if code:
                raise _task_failed(env, f"{step['Name']}: exit code {code}")
            env.stack.append({})
        else:
            emr.terminate_job_flows(JobFlowIds=[parameters["ClusterId"]])
            env.stack.append({})

    def _role(self, profile: str) -> str:
        names = {self.site.pipeline_profile: "PipelineRole", self.site.training_profile: "TrainingRole"}
        return names[profile]


def _task_failed(env: Any, cause: str) -> FailureEventException:
    """What Step Functions makes of a step that EMR calls failed."""
    name = StatesErrorNameType.StatesTaskFailed
    details = TaskFailedEventDetails(error=name.to_name(), cause=cause)
    return FailureEventException(
        FailureEvent(
            env=env,
            error_name=StatesErrorName(typ=name),
            event_type=HistoryEventType.TaskFailed,
            event_details=EventDetails(taskFailedEventDetails=details),
        )
    )


_sdk_task = sdk.StateTaskServiceAwsSdk._eval_service_task


def _as_text(service: Any, env: Any, **arguments: Any) -> None:
    """Step Functions gives an object's body as text; moto's interpreter would copy the stream, and fails."""
    _sdk_task(service, env, **arguments)
    answer = env.stack[-1]
    if isinstance(answer, dict) and "Body" in answer:
        answer["Body"] = answer["Body"].read().decode()


def _field(output: str) -> str:
    names = {output_key(name): name for name in Site.__dataclass_fields__}
    return names.get(output, output)


@contextmanager
def account(run: Run) -> Iterator[Account]:
    """An account with empty buckets; pauses between a state's retries are left out."""
    site = read_site(str(ROOT / "emr" / "site.example.json"))
    gate = Gate(site)
    server = serve(gate)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    home = Account(site, gate, f"http://127.0.0.1:{server.server_port}", run)
    place = {"LocationConstraint": site.region}
    for bucket in (site.data_bucket, site.code_bucket, site.log_bucket):
        home.client("s3").create_bucket(Bucket=bucket, CreateBucketConfiguration=place)
    variables = {"MOTO_PORT": str(server.server_port), **home.variables(OPERATOR)}
    clock = type("Clock", (), {"sleep": staticmethod(lambda seconds: None)})
    try:
        with (
            mock.patch.dict(os.environ, variables),
            mock.patch.dict(default_user_config, {"stepfunctions": {"execute_state_machine": True}}),
            mock.patch.object(retrier_decl, "time", clock),
            mock.patch.object(
                integrations.StateTaskServiceUnsupported,
                "_eval_service_task",
                lambda service, env, resource_runtime_part, normalised_parameters, state_credentials: (
                    home.task(service, env, resource_runtime_part, normalised_parameters, state_credentials)
                ),
            ),
            mock.patch.object(sdk.StateTaskServiceAwsSdk, "_eval_service_task", _as_text),
        ):
            yield home
    finally:
        server.shutdown()
        server.server_close()
