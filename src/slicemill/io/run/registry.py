"""Models by their names in an MLflow registry: models:/NAME@ALIAS or models:/NAME/VERSION."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from slicemill.errors import ConfigError, InputError
from slicemill.io.run.tracking_store import mlflow_client
from slicemill.types import Uri

PREFIX = "models:/"
#: Tags of a model version that say which run folder and which model it is.
RUN_TAG, MODEL_TAG = "slicemill.run", "slicemill.model_id"

_NAME = re.compile(r"models:/(?P<name>[^/@]+)(?:@(?P<alias>[^/@]+)|/(?P<version>\d+))")


def is_registered(text: str) -> bool:
    """Whether a model is named as MLflow names it."""
    return text.startswith(PREFIX)


def registered_run(text: str) -> str:
    """The run folder that a registered model stands for, as its tag `slicemill.run` says.

    The registry is MLFLOW_TRACKING_URI's. Raises ConfigError for a name of another form, MachineError without
    mlflow, InputError if the registry does not know the name, does not answer, or holds a model of another
    program.
    """
    match = _parsed(text)
    with _registry(text) as client:
        if match["alias"]:
            version = client.get_model_version_by_alias(match["name"], match["alias"])
        else:
            version = client.get_model_version(match["name"], match["version"])
    run = version.tags.get(RUN_TAG)
    if not run:
        raise InputError(f"{text} is not a model of slicemill", expected=f"the tag {RUN_TAG}", found="none")
    return str(run)


def register_run(text: str, run: Uri, model_id: str) -> str:
    """Point models:/NAME@ALIAS at a run; return the version's number.

    The run becomes a version of the model unless it is one already. Raises as `registered_run` does.
    """
    match = _parsed(text)
    if not match["alias"]:
        raise ConfigError("a version can't be moved", expected="models:/NAME@ALIAS", found=text)
    with _registry(text) as client:
        if not any(model.name == match["name"] for model in client.search_registered_models()):
            client.create_registered_model(match["name"])
        versions = [
            version
            for version in client.search_model_versions(f"name='{match['name']}'")
            if version.tags.get(RUN_TAG) == run and version.tags.get(MODEL_TAG) == model_id
        ]
        if versions:
            number = max(versions, key=lambda version: int(version.version)).version
        else:
            tags = {RUN_TAG: run, MODEL_TAG: model_id}
            number = client.create_model_version(match["name"], run, tags=tags).version
        client.set_registered_model_alias(match["name"], match["alias"], number)
    return str(number)


def _parsed(text: str) -> re.Match[str]:
    match = _NAME.fullmatch(text)
    if match is None:
        raise ConfigError(
            "this is not a registered model",
            expected="models:/NAME@ALIAS or models:/NAME/VERSION",
            found=text,
        )
    return match


@contextmanager
def _registry(text: str) -> Iterator[Any]:
    """A client of the registry that MLFLOW_TRACKING_URI names; its refusals become InputError."""
    client = mlflow_client(os.environ.get("MLFLOW_TRACKING_URI", ""), text)
    from mlflow.exceptions import MlflowException

    try:
        yield client
    except MlflowException as error:
        raise InputError(
            f"{text} is not in the MLflow registry",
            expected="a registered model, in the store that MLFLOW_TRACKING_URI names",
            found=str(error).splitlines()[0],
        ) from error
