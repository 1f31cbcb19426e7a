"""A release written into an account: what is checked, where it lands, and how a notebook meets its kernel."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import boto3
import nbformat
import pytest
from emr_builder import EMR, SITE, SITE_FILE
from moto import mock_aws

from slicemill.cli import run_verb
from slicemill.emr import client
from slicemill.emr.capacity.shapes import SHAPES
from slicemill.emr.requests.job_settings import executors
from slicemill.emr.upload import emr_notebook, read_archive
from slicemill.errors import ConfigError

ROOT = EMR.parent


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    content = b"packed"
    name = f"slicemill-0.1.0-cpu-x86_64-{hashlib.sha256(content).hexdigest()}.tar.gz"
    (tmp_path / name).write_bytes(content)
    return tmp_path / name


@pytest.fixture
def site(tmp_path: Path) -> Path:
    return Path(shutil.copy(SITE_FILE, tmp_path / "site.json"))


def test_an_archive_of_other_bytes_than_its_name_says_is_refused(archive: Path) -> None:
    assert read_archive(archive).kind == "cpu"
    archive.write_bytes(b"other")
    with pytest.raises(ConfigError, match="is not what its name says"):
        read_archive(archive)
    with pytest.raises(ConfigError, match="not a packed environment"):
        read_archive(archive.with_name("environment.tar.gz"))


def test_one_command_writes_all_that_a_cluster_asks_for_and_remembers_the_environment(
    archive: Path, site: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "x")
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    client._client.cache_clear()
    with mock_aws():
        s3 = boto3.client("s3", SITE.region)
        for bucket in (SITE.code_bucket, "workspaces"):
            s3.create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": SITE.region})
        arguments = ["upload", "--site", str(site), "--archive", str(archive), "--root", str(ROOT)]
        assert run_verb("emr", [*arguments, "--workspace", "s3://workspaces/studio/w"]) == 0
        keys = {item["Key"] for item in s3.list_objects_v2(Bucket=SITE.code_bucket)["Contents"]}
        notebooks = {item["Key"] for item in s3.list_objects_v2(Bucket="workspaces")["Contents"]}
    client._client.cache_clear()
    assert keys >= {"jobs/ingest.py", "bootstrap/environment.sh", "bootstrap/gpu.sh"}
    assert f"environments/{archive.name}" in keys
    assert notebooks == {f"studio/w/{path.name}" for path in (ROOT / "notebooks").glob("*.ipynb")}
    capsys.readouterr()
    assert run_verb("emr", ["submit", "--site", str(site), "--job", "ingest", "--dry-run"]) == 0
    assert SITE.code("environments", archive.name) in capsys.readouterr().out


def test_a_dry_run_writes_nothing(
    archive: Path, site: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(client, "upload", None)
    before = site.read_text()
    arguments = ["upload", "--site", str(site), "--archive", str(archive), "--root", str(ROOT), "--dry-run"]
    assert run_verb("emr", arguments) == 0
    assert site.read_text() == before
    assert "bootstrap/gpu.sh" in capsys.readouterr().out


def test_a_submission_without_an_environment_says_how_to_get_one(
    site: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_verb("emr", ["submit", "--site", str(site), "--job", "ingest", "--dry-run"]) == 2
    assert "slicemill emr upload" in json.loads(capsys.readouterr().out)["error"]


def test_a_folder_that_is_no_checkout_is_refused(site: Path, tmp_path: Path) -> None:
    assert run_verb("emr", ["upload", "--site", str(site), "--root", str(tmp_path), "--dry-run"]) == 2


@pytest.mark.parametrize("path", sorted((ROOT / "notebooks").glob("*.ipynb")), ids=lambda path: path.stem)
def test_a_workspaces_notebook_starts_its_session_with_our_python_and_executors(path: Path) -> None:
    notebook: Any = nbformat.reads(
        emr_notebook(path.read_bytes(), SITE, SHAPES["notebook"]).decode(), as_version=4
    )
    nbformat.validate(notebook)
    assert notebook.metadata.kernelspec.name == "pysparkkernel"
    magic, _, body = notebook.cells[0].source.partition("\n")
    session = json.loads(body)
    plan = executors("score", SHAPES["notebook"])
    assert magic == "%%configure -f"
    assert session["conf"]["spark.pyspark.python"] == "/opt/slicemill/bin/python"
    assert session["conf"]["spark.dynamicAllocation.enabled"] == "false"
    assert (session["numExecutors"], session["executorCores"]) == (plan.count, plan.cores)
    original = nbformat.read(path, as_version=4)
    assert [cell.source for cell in notebook.cells[1:]] == [cell.source for cell in original.cells]
