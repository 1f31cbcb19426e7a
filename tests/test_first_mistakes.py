"""A data engineer's first mistakes: one clear line at once, before Spark starts, and no trace of the job."""

from __future__ import annotations

import json
import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from lake_builder import tiny_scan, write_lake
from run_builder import write_run

from slicemill import cli
from slicemill.io import storage
from slicemill.io.places import Run
from slicemill.io.storage import s3_client
from slicemill.io.storage.uri import canonical


@pytest.fixture(autouse=True)
def _unstarted(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Every verb fails the test if it gets as far as to start."""

    def started(config: Any) -> dict[str, Any]:
        raise AssertionError("the job started")

    for name, verb in cli.VERBS.items():
        monkeypatch.setitem(cli.VERBS, name, cli._Verb(verb.config, started, verb.from_file))
    s3_client._client.cache_clear()
    yield
    s3_client._client.cache_clear()


@pytest.fixture
def no_aws(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No credentials anywhere, and no network to ask for them."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    # boto3 keeps the credentials that an earlier test of this process had.
    monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)


def refused(
    capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture, verb: str, *argv: str
) -> dict[str, Any]:
    """The summary of a job that could not start: the one line of its log, one line and no trace."""
    caplog.clear()
    code = cli.run_verb(verb, list(argv))
    summary: dict[str, Any] = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert code == (2 if summary["status"] == "bad_arguments" else 1)
    said = [record.getMessage() for record in caplog.records if record.name.startswith("slicemill")]
    assert said == [summary["error"]]
    assert "\n" not in summary["error"]
    assert "Traceback" not in summary["error"]
    assert "started" not in summary["error"]
    return summary


def test_no_credentials(capsys: Any, caplog: Any, no_aws: None, tmp_path: Path) -> None:
    summary = refused(capsys, caplog, "ingest", "--raw", "s3://bucket/raw", "--lake", str(tmp_path / "lake"))
    assert "NoCredentialsError" in summary["error"]
    assert "Check your credentials" in summary["error"]
    assert not (tmp_path / "lake").exists()


def test_an_endpoint_that_refuses(
    capsys: Any, caplog: Any, no_aws: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    for name, value in (
        ("ENDPOINT_URL", f"http://127.0.0.1:{port}"),
        ("ACCESS_KEY_ID", "x"),
        ("SECRET_ACCESS_KEY", "x"),
    ):
        monkeypatch.setenv(f"AWS_{name}", value)
    summary = refused(capsys, caplog, "ingest", "--raw", "s3://bucket/raw", "--lake", "s3://bucket/lake")
    assert "EndpointConnectionError" in summary["error"]
    assert "Check AWS_ENDPOINT_URL" in summary["error"]


@pytest.mark.parametrize(
    "argv",
    [
        ("ingest", "--raw", "s3://slicemill-none/raw", "--lake", "s3://slicemill-none/lake"),
        ("split", "--lake", "s3://slicemill-none/lake", "--name", "a", "--folds", "5"),
        ("train", "--lake", "s3://slicemill-none/lake", "--split", "a", "--out", "s3://slicemill-none/run"),
        ("score", "--model", "s3://slicemill-none/run", "--raw", "s3://slicemill-none/raw", "--out", "s3://slicemill-none/o"),
    ],
)  # fmt: skip
def test_a_bucket_that_does_not_exist(capsys: Any, caplog: Any, s3: str, argv: tuple[str, ...]) -> None:
    assert "NoSuchBucket" in refused(capsys, caplog, *argv)["error"]


@pytest.mark.parametrize(
    ("argv", "named"),
    [
        (("ingest", "--raw", "{}/none", "--lake", "{}/lake"), "{}/none can't be read"),
        (("ingest", "--raw", "{}/file", "--lake", "{}/lake"), "{}/file can't be read"),
        (("ingest", "--raw", "{}", "--lake", "{}/lake", "--clinical", "{}/c.csv"), "{}/c.csv can't be read"),
        (("ingest", "--raw", "{}", "--lake", "{}/file/lake"), "{}/file/lake can't be written"),
        (("ingest", "--raw", "gs://bucket/raw", "--lake", "{}/lake"), "not supported"),
        (("split", "--lake", "{}/lake", "--name", "a", "--folds", "5"), "{}/lake is not a lake"),
        (("train", "--lake", "{}/lake", "--split", "a", "--out", "{}/run"), "{}/lake is not a lake"),
        (("score", "--model", "{}/none", "--raw", "{}", "--out", "{}/scores"), "{}/none can't be read"),
        (("report", "--lake", "{}/lake", "--out", "{}/page"), "{}/lake is not a lake"),
    ],
)  # fmt: skip
def test_a_wrong_path_is_named_and_nothing_is_made(
    capsys: Any, caplog: Any, tmp_path: Path, argv: tuple[str, ...], named: str
) -> None:
    (tmp_path / "file").write_bytes(b"")
    summary = refused(capsys, caplog, *(text.replace("{}", str(tmp_path)) for text in argv))
    assert named.replace("{}", str(tmp_path)) in summary["error"]
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize(
    ("argv", "sentence"),
    [
        (
            ("train", "--split", "none", "--out", "{}/run"),
            "the lake has no split none; expected folds, parts",
        ),
        (("crossval", "--split", "none", "--out", "{}/run"), "the lake has no split none"),
        (("score", "--model", "{}/done", "--split", "none", "--out", "{}/o"), "the lake has no split none"),
        (
            ("score", "--model", "{}/done", "--split", "parts", "--part", "fold-1", "--out", "{}/o"),
            "the split parts has no part fold-1",
        ),
        (("train", "--split", "parts", "--fold", "1", "--out", "{}/run"), "--fold does not fit the split"),
        (("train", "--split", "folds", "--fold", "2", "--out", "{}/run"), "expected --fold 0 to 1"),
        (
            ("train", "--split", "parts", "--val-share", "0.1", "--out", "{}/run"),
            "--val-share does not fit the split",
        ),
        (("train", "--split", "parts", "--out", "{}/done"), "holds a finished run"),
        (
            ("score", "--model", "{}/half", "--split", "parts", "--out", "{}/o"),
            "{}/half is a training that has not finished",
        ),
    ],
)
def test_what_a_lake_or_a_run_lacks_is_said_before_spark_starts(
    capsys: Any, caplog: Any, tmp_path: Path, argv: tuple[str, ...], sentence: str
) -> None:
    lake, verb = str(tmp_path / "lake"), argv[0]
    write_lake(
        canonical(lake),
        [tiny_scan("A", 2), tiny_scan("B", 2)],
        {"parts": {"PA": "train", "PB": "test"}, "folds": {"PA": "fold-0", "PB": "fold-1"}},
    )
    write_run(canonical(str(tmp_path / "done")), size=32)
    storage.write_bytes(Run(canonical(str(tmp_path / "half"))).plan, b"{}")
    summary = refused(
        capsys, caplog, verb, "--lake", lake, *(text.replace("{}", str(tmp_path)) for text in argv[1:])
    )
    assert sentence.replace("{}", str(tmp_path)) in summary["error"]


@pytest.mark.parametrize(
    ("argv", "sentence"),
    [
        (("--raw", "a", "--lak", "b"), "Missing from slicemill ingest: --lake"),
        (("--raw", "a", "--lake", "b", "--bucket", "many"), "Error parsing --bucket"),
        (("--raw", "a", "--lake", "b", "--summary"), "argument --summary: expected one argument"),
        (("--raw", "a", "--lake", "b", "--max-bad-fraction", "7"), "--max-bad-fraction"),
    ],
)
def test_bad_arguments_are_one_sentence_on_both_ways(
    capsys: Any, caplog: Any, argv: tuple[str, ...], sentence: str
) -> None:
    summary = refused(capsys, caplog, "ingest", *argv)
    assert summary["status"] == "bad_arguments"
    assert sentence in summary["error"]


@pytest.mark.parametrize(
    ("verb", "meant"),
    [("ingst", "ingest"), ("trian", "train"), ("scores", "score"), ("cross-val", "crossval")],
)
def test_a_misspelt_verb_is_named_with_the_nearest_one(
    capsys: Any, caplog: Any, monkeypatch: pytest.MonkeyPatch, verb: str, meant: str
) -> None:
    monkeypatch.setattr(sys, "argv", ["slicemill", verb])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    summary = json.loads(capsys.readouterr().out)
    assert stop.value.code == 2
    assert f"Did you mean {meant}?" in summary["error"]
    assert caplog.messages == [summary["error"]]
