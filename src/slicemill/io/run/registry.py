"""Models by their names in an MLflow registry: models:/NAME@ALIAS or models:/NAME/VERSION."""

from __future__ import annotations

import os
import re

from slicemill.errors import ConfigError, InputError, MachineError

PREFIX = "models:/"
#: Tag of a model version that says which run folder it is.
RUN_TAG = "slicemill.run"

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
    match = _NAME.fullmatch(text)
    if match is None:
        raise ConfigError(
            "--model is not a registered model",
            expected="models:/NAME@ALIAS or models:/NAME/VERSION",
            found=text,
        )
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    try:
        from mlflow import MlflowClient
        from mlflow.exceptions import MlflowException
    except ImportError as error:
        raise MachineError(
            f"{text} needs a package that is not installed",
            expected="mlflow-skinny",
            found="none",
            advice="pip install 'slicemill[track]', or give the run's folder.",
        ) from error
    try:
        client = MlflowClient()
        if match["alias"]:
            version = client.get_model_version_by_alias(match["name"], match["alias"])
        else:
            version = client.get_model_version(match["name"], match["version"])
    except MlflowException as error:
        raise InputError(
            f"{text} is not in the MLflow registry",
            expected="a registered model, in the store that MLFLOW_TRACKING_URI names",
            found=str(error).splitlines()[0],
        ) from error
    run = version.tags.get(RUN_TAG)
    if not run:
        raise InputError(f"{text} is not a model of slicemill", expected=f"the tag {RUN_TAG}", found="none")
    return str(run)
