"""What a run leaves in its MLflow run besides numbers: files of the run, and the scores of its model."""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Iterable, Mapping
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
    return MlflowClient(tracking_uri=store.removeprefix("mlflow:") or None)


def artifact_folder(store: str) -> str | None:
    """Where files of a new experiment go: beside a local store's database; a server decides by itself."""
    path = store.removeprefix("mlflow:")
    if not path.startswith(_SQLITE):
        return None
    return Path(path.removeprefix(_SQLITE)).resolve().with_suffix(".artifacts").as_uri()


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
        """Log what its model scored, under score/<name>, and where the scores lie.

        A store that does not take them is named in the log: the scores themselves are written.
        """
        try:
            for name, value in numbers.items():
                if value is not None:
                    self.client.log_metric(self.run_id, f"score/{name}", float(value))
            self.client.set_tag(self.run_id, "slicemill.scores", display(scores))
        except Exception as error:
            log.warning("MLflow did not take the scores: %s", type(error).__name__)
