"""Before anything is downloaded, a machine that lacks something gets one clear line."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

_SCRIPTS = Path(__file__).parents[2] / "scripts"


def _java(folder: Path, said: str) -> str:
    """A home of a Java that only tells its version."""
    java = folder / "bin" / "java"
    java.parent.mkdir(parents=True)
    java.write_text(f"#!/bin/sh\necho '{said}' >&2\n")
    java.chmod(0o755)
    return str(folder)


def _preflight(*before: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """The check, with statements of Python to run before it."""
    script = "\n".join([f"import sys; sys.path.insert(0, {str(_SCRIPTS)!r})", "import preflight", *before])
    command = [sys.executable, "-c", script + "\nsys.exit(preflight.main())"]
    return subprocess.run(command, env={**os.environ, **environ}, capture_output=True, text=True, check=False)


def _only_line(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 1
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    return line


@pytest.mark.parametrize("said", ['openjdk version "17.0.15" 2025-04-15', 'java version "21" 2023-09-19'])
def test_a_good_machine_passes_in_silence(tmp_path: Path, said: str) -> None:
    done = _preflight("preflight.FRESH_BYTES = 0", JAVA_HOME=_java(tmp_path / "home", said))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize(
    ("said", "named"),
    [('java version "1.8.0_402"', "Java 8 found"), ('openjdk version "11.0.2"', "Java 11 found")],
)
def test_a_wrong_java_is_named(tmp_path: Path, said: str, named: str) -> None:
    line = _only_line(_preflight(JAVA_HOME=_java(tmp_path / "home", said)))
    assert named in line
    assert "17 or 21" in line


def test_a_java_home_without_java_is_named(tmp_path: Path) -> None:
    line = _only_line(_preflight(JAVA_HOME=str(tmp_path)))
    assert f"no Java found in JAVA_HOME ({tmp_path})" in line


def test_no_java_at_all_is_said(tmp_path: Path) -> None:
    line = _only_line(_preflight(JAVA_HOME="", PATH=str(tmp_path)))
    assert "no Java found" in line


def test_a_wrong_python_is_named() -> None:
    line = _only_line(_preflight("sys.version_info = (3, 9, 2)"))
    assert "Python 3.9 found" in line
    assert "3.11, 3.12 or 3.13" in line


def test_a_full_disk_is_named(tmp_path: Path) -> None:
    home = _java(tmp_path / "home", 'openjdk version "17.0.1"')
    line = _only_line(_preflight("preflight.READY_BYTES = preflight.FRESH_BYTES = 10**18", JAVA_HOME=home))
    assert "GB free on the disk" in line


def test_packages_that_are_linked_need_less_room(tmp_path: Path) -> None:
    home, cache = _java(tmp_path / "home", 'openjdk version "17.0.1"'), tmp_path / "cache"
    (tmp_path / "requirements").mkdir()
    (tmp_path / "requirements" / "all.txt").write_text("torch==9.8.7 \\\n    --hash=sha256:0\n")
    before = (f"preflight.ROOT, preflight.READY = {str(tmp_path)!r}, ''", "preflight.FRESH_BYTES = 10**18")
    before = (*before, "preflight.LINKED_BYTES = 0")
    assert "GB free on the disk" in _only_line(_preflight(*before, JAVA_HOME=home, UV_CACHE_DIR=str(cache)))
    (cache / "archive-v0" / "abc" / "torch-9.8.7.dist-info").mkdir(parents=True)
    assert _preflight(*before, JAVA_HOME=home, UV_CACHE_DIR=str(cache)).returncode == 0


def test_a_python_that_does_not_run_is_named(tmp_path: Path) -> None:
    command = ["sh", str(_SCRIPTS / "preflight.sh"), str(tmp_path / "python")]
    line = _only_line(subprocess.run(command, capture_output=True, text=True, check=False))
    assert f"PYTHON={tmp_path / 'python'} does not run" in line


def test_a_machine_without_python_is_told_what_to_do(tmp_path: Path) -> None:
    for tool in ("dirname", "sh"):
        (tmp_path / tool).symlink_to(shutil.which(tool) or pytest.fail(f"no {tool}"))
    command = ["sh", str(_SCRIPTS / "preflight.sh")]
    environ = {**os.environ, "PATH": str(tmp_path)}
    line = _only_line(subprocess.run(command, env=environ, capture_output=True, text=True, check=False))
    assert "no Python found; expected Python 3.11, 3.12 or 3.13" in line
