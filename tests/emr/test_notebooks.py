"""Notebooks without people: the request, and that it sets what the notebooks read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, get_args

import boto3
import nbformat
import pytest
from botocore.stub import Stubber
from emr_builder import EMR, SITE, SITE_FILE

from slicemill.cli import run_verb
from slicemill.emr import client
from slicemill.emr.requests.notebooks import NotebookName, NotebookRun
from slicemill.errors import ConfigError

NAMES = get_args(NotebookName)
FOLDER = EMR.parent / "notebooks"
ASKED = ("--site", SITE_FILE, "--cluster", "j-1", "--editor", "e-1", "--service-role", "studio")


def run_of(name: NotebookName, **more: str) -> NotebookRun:
    given = {"editor": "e-1", "cluster": "j-1", "service_role": "studio", "run": "first", "split": "first"}
    return NotebookRun(SITE, name, **(given | more))


def parameters_of(path: Path) -> dict[str, Any]:
    (cell,) = [
        cell
        for cell in nbformat.read(path, as_version=4).cells
        if "parameters" in cell.metadata.get("tags", ())
    ]
    found: dict[str, Any] = {}
    exec(cell.source, found)  # noqa: S102 # Our own notebook.
    return {name: value for name, value in found.items() if name.isupper()}


def test_every_notebook_can_be_run() -> None:
    assert sorted(NAMES) == sorted(path.stem for path in FOLDER.glob("*.ipynb"))


@pytest.mark.parametrize("name", NAMES)
def test_a_request_sets_every_path_that_the_notebook_reads(name: NotebookName) -> None:
    theirs, ours = parameters_of(FOLDER / f"{name}.ipynb"), run_of(name).parameters()
    assert ours.keys() <= theirs.keys()
    paths = {key for key, value in theirs.items() if str(value).startswith("..")}
    assert paths == {key for key, value in ours.items() if str(value).startswith(f"s3://{SITE.data_bucket}/")}


def test_what_a_notebook_writes_is_where_its_role_may_write() -> None:
    assert run_of("02-train-and-watch").parameters()["TRAIN"] is False
    assert run_of("04-score-new-scans").parameters()["OUT"].startswith(SITE.data("notebooks", ""))


@pytest.mark.parametrize("ids", [{"editor": "first"}, {"cluster": "slicemill"}, {"editor": "j-1"}])
def test_what_is_no_id_is_refused(ids: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match="not an EMR id"):
        run_of("01-explore-lake", **ids)


def test_a_dry_run_prints_the_request(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_verb("emr", ("notebook", *ASKED, "--notebook", NAMES[2], "--run", "second", "--dry-run")) == 0
    *lines, summary = capsys.readouterr().out.splitlines()
    printed = json.loads("\n".join(lines))
    assert printed["operation"] == "start_notebook_execution"
    assert json.loads(printed["request"]["NotebookParams"])["SCORES"] == SITE.data("scores", "second")
    assert json.loads(summary)["job"] == "emr notebook"


def test_the_request_fits_the_service_model_and_the_execution_is_told(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    emr = boto3.client("emr", SITE.region, aws_access_key_id="x", aws_secret_access_key="x")
    monkeypatch.setattr(client, "_client", lambda *_: emr)
    with Stubber(emr) as stubber:
        for name in NAMES:
            stubber.add_response(
                "start_notebook_execution", {"NotebookExecutionId": "ex-1"}, run_of(name).request()
            )
            assert run_verb("emr", ("notebook", *ASKED, "--notebook", name)) == 0
            assert json.loads(capsys.readouterr().out)["execution"] == "ex-1"
