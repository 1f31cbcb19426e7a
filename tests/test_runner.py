"""The contract of every job: one JSON line at the end of standard output, and the exit code."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from py4j.java_gateway import GatewayParameters, JavaGateway

from slicemill import cli
from slicemill.errors import ConfigError, InputError
from slicemill.runner import run_job


@dataclass(frozen=True)
class Config:
    """A job's configuration."""

    number: int
    """A number."""
    raw: tuple[str, ...] = ()
    """Repeatable."""


@pytest.fixture(autouse=True)
def _quiet_root() -> Iterator[None]:
    before = list(logging.getLogger().handlers)
    yield
    logging.getLogger().handlers[:] = before


def last_line(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    summary: dict[str, Any] = json.loads(capsys.readouterr().out.splitlines()[-1])
    return summary


@pytest.mark.parametrize(("status", "code"), [("done", 0), ("data_short", 3), ("failed", 1)])
def test_the_status_is_the_exit_code(capsys: pytest.CaptureFixture[str], status: str, code: int) -> None:
    assert (
        run_job(
            "slicemill try", Config, lambda config: {"status": status, "n": config.number}, ["--number", "3"]
        )
        == code
    )
    summary = last_line(capsys)
    assert (summary["job"], summary["status"], summary["n"]) == ("try", status, 3)
    assert summary["seconds"] >= 0


@pytest.mark.parametrize(
    ("error", "code"), [(InputError("gone"), 1), (ConfigError("--x is wrong"), 2), (KeyError("k"), 1)]
)
def test_errors_end_in_a_summary_too(capsys: pytest.CaptureFixture[str], error: Exception, code: int) -> None:
    def fail(config: Config) -> dict[str, Any]:
        raise error

    assert run_job("slicemill try", Config, fail, ["--number", "1"]) == code
    assert last_line(capsys)["error"]


def test_a_users_mistake_has_no_stack_trace(
    capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    def fail(config: Config) -> dict[str, Any]:
        raise InputError("the folder is gone", expected="a folder", found="nothing", advice="Look again.")

    run_job("slicemill try", Config, fail, ["--number", "1"])
    assert caplog.messages == ["the folder is gone; expected a folder; found nothing. Look again."]


@pytest.mark.parametrize("argv", [[], ["--number", "x"], ["--number", "1", "--nmber", "2"]])
def test_bad_arguments_exit_with_2(capsys: pytest.CaptureFixture[str], argv: list[str]) -> None:
    assert run_job("slicemill try", Config, lambda config: {"status": "done"}, argv) == 2
    assert last_line(capsys)["status"] == "bad_arguments"


def test_a_repeated_flag_collects(capsys: pytest.CaptureFixture[str]) -> None:
    argv = ["--number", "1", "--raw", "a", "--raw", "b"]
    run_job("slicemill try", Config, lambda config: {"status": "done", "raw": config.raw}, argv)
    assert last_line(capsys)["raw"] == ["a", "b"]


@pytest.mark.parametrize("verb", cli.VERBS)
def test_every_verb_explains_itself(capsys: pytest.CaptureFixture[str], verb: str) -> None:
    assert cli.run_verb(verb, ["--help"]) == 0
    assert f"slicemill {verb}" in capsys.readouterr().out


def test_arguments_go_before_a_file_and_the_file_before_defaults(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = tmp_path / "experiment.yaml"
    path.write_text("number: 3\n")

    def seen(*argv: str) -> Any:
        run_job(
            "slicemill try",
            Config,
            lambda config: {"status": "done", "n": config.number},
            argv,
            from_file=True,
        )
        return last_line(capsys)

    assert seen("--config", str(path))["n"] == 3
    assert seen("--number", "4", f"--config={path}")["n"] == 4
    assert seen("--number", "4")["n"] == 4
    assert seen()["status"] == "bad_arguments"
    assert seen("--config", str(tmp_path / "none.yaml"))["status"] == "failed"
    path.write_text("nmber: 3\n")
    assert "nmber" in seen("--config", str(path))["error"]


def test_help_into_a_pipe_that_closes_is_no_error() -> None:
    command = "from slicemill.cli import main; import sys; sys.argv[1:] = ['crossval', '--help']; main()"
    with subprocess.Popen(
        [sys.executable, "-c", command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as helped:
        assert helped.stdout is not None
        assert helped.stderr is not None
        helped.stdout.close()
        assert helped.stderr.read() == ""
    assert helped.returncode == 0


def test_a_summary_is_written_to_a_file_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = tmp_path / "night" / "job.json"
    run_job("slicemill demo", Config, lambda config: {"status": "data_short"}, ["--summary", str(place)])
    assert json.loads(place.read_text()) == json.loads(capsys.readouterr().out)


def test_a_summary_that_can_not_be_written_fails_the_job(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    place = str(tmp_path / "file" / "job.json")
    code = run_job("slicemill demo", Config, lambda config: {"status": "done"}, ["--summary", place])
    assert (code, json.loads(capsys.readouterr().out)["status"]) == (1, "failed")


def test_an_interrupt_is_named_though_spark_fails_of_it_afterwards(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail(config: Config) -> dict[str, Any]:
        try:
            raise KeyboardInterrupt("ended by SIGTERM")
        except KeyboardInterrupt:
            # As Py4J does, whose JVM got the signal too.
            raise RuntimeError("Answer from Java side is empty")  # noqa: B904

    assert run_job("slicemill try", Config, fail, ["--number", "1"]) == 1
    assert last_line(capsys)["error"] == "ended by SIGTERM"


def test_a_jvm_that_is_gone_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    def fail(config: Config) -> dict[str, Any]:
        # Nothing listens on port 1: this is what a job meets whose JVM was killed.
        gateway = JavaGateway(gateway_parameters=GatewayParameters(port=1))
        return {"now": gateway.jvm.System.currentTimeMillis()}

    assert run_job("slicemill try", Config, fail, ["--number", "1"]) == 1
    assert "JVM has ended" in last_line(capsys)["error"]
