"""`slicemill emr package`: Docker's commands, and what it makes of their ends."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from emr_builder import EMR, SITE_FILE

from slicemill.cli import run_verb
from slicemill.emr.building import build, build_commands
from slicemill.errors import ConfigError, MachineError

NAME = f"slicemill-0.1.0-cpu-x86_64-{hashlib.sha256(b'').hexdigest()}.tar.gz"


def docker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: str) -> Path:
    (tmp_path / "bin").mkdir()
    script = tmp_path / "bin" / "docker"
    script.write_text(f"#!/bin/sh\n{body}\n")
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    out = tmp_path / "dist"
    out.mkdir()
    return out


def test_the_dry_run_prints_a_build_for_each_kind(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["package", "--site", SITE_FILE, "--root", str(EMR.parent), "--dry-run"]
    assert run_verb("emr", arguments) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("docker build")]
    assert [line.partition("KIND=")[2].split()[0] for line in lines] == ["cpu", "gpu"]
    assert all("--platform linux/amd64" in line for line in lines)


def test_a_build_gives_the_archive_that_it_wrote(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = docker(tmp_path, monkeypatch, f"touch {tmp_path}/dist/{NAME}")
    (out / "slicemill-old.tar.gz").touch()
    (command,) = build_commands(["cpu"], "linux/amd64", out, EMR.parent)
    for _ in range(2):
        assert build(command, out).name == NAME


@pytest.mark.parametrize("body", ["exit 1", "exit 0"])
def test_a_build_without_an_archive_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: str
) -> None:
    out = docker(tmp_path, monkeypatch, body)
    with pytest.raises(MachineError, match="not built"):
        build(("docker", "build"), out)


def test_a_machine_without_docker_is_told_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MachineError, match=r"build_env\.sh"):
        build(("docker", "build"), tmp_path)


def test_a_folder_that_is_not_a_checkout_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="checkout"):
        build_commands(["cpu"], "linux/amd64", tmp_path, tmp_path)
