"""Runs of an MLflow store: begun or taken up again, and what they get besides the numbers of epochs."""

from __future__ import annotations

import fcntl
import logging
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slicemill.errors import InputError, MachineError
from slicemill.io import storage
from slicemill.io.places import Run
from slicemill.io.storage.uri import display
from slicemill.types import Uri

log = logging.getLogger(__name__)

_SQLITE = "sqlite:///"
#: Longest value of a parameter that MLflow's stores take.
_LONGEST_VALUE = 500
#: What MLflow's page knows a child run by.
_PARENT = "mlflow.parentRunId"


def mlflow_client(store: str, flag: str) -> Any:
    """A client of an MLflow store; raise MachineError, which names the flag, without mlflow."""
    # A hospital's training does not report to anyone.
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.WARNING)
    try:
        from mlflow import MlflowClient
    except ImportError as error:
        raise MachineError(
            f"{flag} needs a package that is not installed",
            expected="mlflow-skinny",
            found="none",
            advice="pip install 'slicemill[track]', on every worker.",
        ) from error
    with _sole_opener(store):
        return MlflowClient(tracking_uri=store.removeprefix("mlflow:") or None)


@contextmanager
def _sole_opener(store: str) -> Iterator[None]:
    """Others wait while this process opens a local store: the first makes its tables, and two spoil them."""
    database = _database(store)
    if database is None or not database.parent.is_dir():
        # What is wrong with the folder MLflow says itself.
        yield
        return
    with database.with_name(f"{database.name}.lock").open("a+b") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _database(store: str) -> Path | None:
    """The file of a local store; None of a server."""
    path = store.removeprefix("mlflow:")
    return Path(path.removeprefix(_SQLITE)).resolve() if path.startswith(_SQLITE) else None


def artifact_folder(store: str) -> str | None:
    """Where files of a new experiment go: beside a local store's database; a server decides by itself."""
    database = _database(store)
    return None if database is None else database.with_suffix(".artifacts").as_uri()


@dataclass(frozen=True)
class RunEntry:
    """What a run in an MLflow store is to be: store, experiment, name, parameters, and the run it belongs to.

    `record` is the file in its folder that remembers it.
    """

    store: str
    experiment: str
    name: str
    record: Uri
    parameters: Mapping[str, object]
    parent: str | None = None

    def create(self, client: Any) -> str:
        """Create the run and return its id; nothing remembers it yet."""
        from mlflow.entities import Param

        experiment = self._experiment(client)
        tags = {_PARENT: self.parent} if self.parent else None
        run = str(client.create_run(experiment, run_name=self.name, tags=tags).info.run_id)
        parameters = [Param(name, str(value)[:_LONGEST_VALUE]) for name, value in self.parameters.items()]
        client.log_batch(run, params=parameters)
        return run

    def _experiment(self, client: Any) -> str:
        """Id of the experiment, which is created unless it exists."""
        from mlflow.exceptions import MlflowException

        entry = client.get_experiment_by_name(self.experiment)
        if entry is None:
            try:
                return str(client.create_experiment(self.experiment, artifact_folder(self.store)))
            except MlflowException:
                # Another worker was faster.
                entry = client.get_experiment_by_name(self.experiment)
                if entry is None:
                    raise
        return str(entry.experiment_id)

    def recorded(self) -> str | None:
        """Id of the run that the folder remembers, if it is in this store."""
        if not storage.exists(self.record):
            return None
        record = storage.read_json(self.record)
        return str(record["run"]) if record["store"] == self.store else None


@dataclass(frozen=True)
class TrackedRun:
    """A run of an MLflow store."""

    client: Any
    run_id: str

    @classmethod
    def of(cls, home: Uri, flag: str) -> TrackedRun:
        """The MLflow run that a training run was logged to.

        Raises InputError if it was not, MachineError where mlflow is not installed.
        """
        uri = Run(home).tracking
        if not storage.exists(uri):
            raise InputError(
                f"{display(home)} was not tracked",
                expected="a run that was trained with --track",
                found="no tracking.json",
                advice=f"Leave {flag} out.",
            )
        record = storage.read_json(uri)
        return cls(mlflow_client(str(record.get("store")), flag), str(record.get("run")))

    @classmethod
    def begin(cls, entry: RunEntry, flag: str, *, resume: bool) -> TrackedRun:
        """The run that the folder remembers, taken up again, or else a new one.

        Raises MachineError, which names the flag, where mlflow is not installed.
        """
        client = mlflow_client(entry.store, flag)
        run = entry.recorded() if resume else None
        if run is None:
            run = entry.create(client)
            record = {"store": entry.store, "run": run}
            if storage.create(entry.record, storage.json_bytes(record)):
                return cls(client, run)
            # Of several workers on one study the first has remembered its run.
            first = entry.recorded() if resume else None
            if first is None:
                storage.write_json(entry.record, record)
                return cls(client, run)
            client.delete_run(run)
            run = first
        client.update_run(run, status="RUNNING")
        if entry.parent:
            client.set_tag(run, _PARENT, entry.parent)
        return cls(client, run)

    def end(self, finished: bool) -> None:
        """Mark the run as finished or failed."""
        self.client.set_terminated(self.run_id, "FINISHED" if finished else "FAILED")

    def log_files(self, uris: Iterable[Uri], folder: str | None = None) -> None:
        """Copy those files that exist into the run's artifacts.

        A store that does not take them is named in the log: training goes on.
        """
        with tempfile.TemporaryDirectory() as scratch:
            for uri in uris:
                if not storage.exists(uri):
                    continue
                path = Path(scratch, uri.rpartition("/")[2])
                path.write_bytes(storage.read_bytes(uri))
                try:
                    self.client.log_artifact(self.run_id, str(path), folder)
                except Exception as error:
                    log.warning("MLflow did not take %s: %s", path.name, type(error).__name__)

    def log_published(self, home: Uri) -> None:
        """Copy the model, its card and its figures into the run's artifacts."""
        run = Run(home)
        self.log_files([run.weights, run.card], "model")
        self.log_files([file.uri for file in storage.list_or_none(run.figures)], "figures")

    def log_scores(self, numbers: Mapping[str, float | None], scores: Uri) -> None:
        """Log what its model scored, under score/<name>, and where the scores lie."""
        self.log_result(
            {f"score/{name}": value for name, value in numbers.items()}, {"scores": display(scores)}
        )

    def log_result(self, numbers: Mapping[str, float | None], tags: Mapping[str, str]) -> None:
        """Log numbers that are not known yet or have changed, and tags slicemill.<name>.

        A store that does not take them is named in the log: the result itself is written.
        """
        try:
            stored = self.client.get_run(self.run_id).data.metrics
            for name, value in numbers.items():
                if value is not None and stored.get(name) != float(value):
                    self.client.log_metric(self.run_id, name, float(value))
            for name, text in tags.items():
                self.client.set_tag(self.run_id, f"slicemill.{name}", text)
        except Exception as error:
            log.warning("MLflow did not take the result: %s", type(error).__name__)


@contextmanager
def parent_run(entry: RunEntry | None) -> Iterator[TrackedRun | None]:
    """The run that others are children of, marked as finished or failed in the end; None without tracking."""
    if entry is None:
        yield None
        return
    run, finished = TrackedRun.begin(entry, "--track", resume=True), False
    try:
        yield run
        finished = True
    finally:
        run.end(finished)
