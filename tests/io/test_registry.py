"""Models by their names in an MLflow registry, in a local store."""

from __future__ import annotations

from pathlib import Path

import pytest
from run_builder import write_run

from slicemill.config import PromoteConfig, RollbackConfig
from slicemill.errors import ConfigError, InputError
from slicemill.io.run.pointer import open_model
from slicemill.io.run.registry import RUN_TAG, registered_run
from slicemill.io.storage.uri import canonical
from slicemill.pipelines.deployment import promote

NAME = "models:/tumours@champion"


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("runs")
    for seed, name in enumerate(("first", "second")):
        write_run(canonical(str(home / name)), seed, size=32)
    return home


@pytest.mark.slow
def test_an_alias_is_promoted_followed_and_moved(runs, tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    versions = [
        promote.run(PromoteConfig(str(runs / name), NAME))["version"] for name in ("first", "second", "first")
    ]
    assert versions == ["1", "2", "1"]
    named = open_model(NAME)
    assert (named.run, named.pointer) == (canonical(str(runs / "first")), NAME)
    assert open_model("models:/tumours/2").run == canonical(str(runs / "second"))
    with pytest.raises(InputError, match="not in the MLflow registry"):
        registered_run("models:/tumours@nobody")
    from mlflow import MlflowClient

    MlflowClient().create_registered_model("others")
    MlflowClient().create_model_version("others", "elsewhere")
    with pytest.raises(InputError, match=RUN_TAG):
        registered_run("models:/others/1")


@pytest.mark.parametrize("text", ["models:/a", "models:/a@b@c", "models:/a/b", "models:/", "models:/a/1/2"])
def test_a_name_of_another_form_is_refused(text):
    with pytest.raises(ConfigError, match="models:/NAME@ALIAS"):
        registered_run(text)


def test_a_version_is_not_moved_and_an_alias_not_rolled_back(runs):
    with pytest.raises(ConfigError, match="a version can't be moved"):
        promote.run(PromoteConfig(str(runs / "first"), "models:/tumours/1"))
    with pytest.raises(ConfigError, match="rollback moves pointer files"):
        promote.roll_back(RollbackConfig(NAME))
