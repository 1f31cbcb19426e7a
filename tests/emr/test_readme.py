"""The commands of EMR's guide, reference and runbook, run by a shell: ours dry, AWS's against its models."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import botocore.session
import pytest
from botocore import xform_name
from emr_builder import EMR, SITE, SITE_FILE

from slicemill.cli import run_verb
from slicemill.emr.requests.steps import check_arguments
from slicemill.emr.site import site_rows
from slicemill.emr.upload import with_environments

PAGES = (EMR / "README.md", EMR.parent / "docs" / "emr-reference.md", EMR / "runbook.md")
TEXTS = [page.read_text("utf-8") for page in PAGES]
BLOCKS = [block for text in TEXTS for block in re.findall(r"^```\n(.*?)^```$", text, re.M | re.S)]
#: Stands for a command that only an account or a node has: notes how it was called, answers like AWS.
STAND_IN = """#!/usr/bin/env bash
printf '%s\\x1f' "${0##*/}" "$@" >>calls
printf '\\x1e' >>calls
[[ "$*" == *"--query Stacks[0].Outputs" ]] && cat outputs.json || echo answer
"""
STOOD_IN = ("aws", "docker", "openssl", "slicemill", "spark-submit", "zip")
#: What the AWS CLI adds to the services' own operations, and its options for every one of them.
CLI_ONLY = {("cloudformation", "deploy"), ("s3", "cp")}
GLOBAL = {"--query", "--output", "--region"}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which every block was run, in the pages' order, by one shell."""
    home = tmp_path_factory.mktemp("readme")
    (home / "bin").mkdir()
    for name in STOOD_IN:
        (home / "bin" / name).write_text(STAND_IN)
        (home / "bin" / name).chmod(0o755)
    uris = {kind: SITE.code("environments", f"slicemill-{kind}-{'0' * 64}.tar.gz") for kind in ("cpu", "gpu")}
    # As `slicemill emr package` leaves the site, which runs dry here.
    (home / "outputs.json").write_text(json.dumps(with_environments(site_rows(SITE_FILE), uris)))
    (home / "dist").mkdir()
    for kind in ("cpu", "gpu"):
        name = f"slicemill-0.1.0-{kind}-x86_64-{hashlib.sha256(b'').hexdigest()}.tar.gz"
        (home / "dist" / name).touch()
    for folder in ("emr/bootstrap", "emr/packaging", "jobs", "notebooks"):
        shutil.copytree(EMR.parent / folder, home / folder)
    (home / "certificateChain.pem").touch()
    shell = [block for block in BLOCKS if not block.startswith("%%")]
    # The pages' own marks for what a reader fills in.
    script = "set -euo pipefail\n" + "".join(shell).replace("…", "X")
    done = subprocess.run(
        ["bash", "-c", script],
        cwd=home,
        env={"PATH": f"{home / 'bin'}{os.pathsep}{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return home


def calls(home: Path, command: str) -> list[list[str]]:
    records = (record.split("\x1f")[:-1] for record in (home / "calls").read_text().split("\x1e")[:-1])
    return [arguments for name, *arguments in records if name == command]


def test_every_command_of_ours_runs_dry(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(home)
    # A dry upload notes no environments, and the next commands take them from there.
    uris = {
        kind: SITE.code("environments", next(Path("dist").glob(f"*-{kind}-*")).name)
        for kind in ("cpu", "gpu")
    }
    Path("site.json").write_text(json.dumps(with_environments(site_rows(SITE_FILE), uris)))
    inline = [
        shlex.split(found.replace("j-…", "j-X"))[1:]
        for found in re.findall(r"`(slicemill emr \w+ --[^`]*)`", "\n".join(TEXTS))
    ]
    commands = [arguments for arguments in calls(home, "slicemill") if arguments[0] == "emr"] + inline
    assert {arguments[1] for arguments in commands} == {
        "instances", "list", "logs", "notebook", "package", "release-network", "render", "serverless",
        "status", "submit", "terminate", "upload",
    }  # fmt: skip
    for verb, *arguments in commands:
        dry = [] if "--dry-run" in arguments or arguments[0] == "render" else ["--dry-run"]
        assert run_verb(verb, [*arguments, *dry]) == 0, arguments
        assert json.loads(capsys.readouterr().out.splitlines()[-1])["status"] == "done"


def test_every_command_of_aws_is_one_with_these_options(home: Path) -> None:
    session = botocore.session.get_session()
    for service, operation, *arguments in calls(home, "aws"):
        if (service, operation) in CLI_ONLY:
            continue
        model = session.get_service_model(service)
        names = {xform_name(name, "-"): name for name in model.operation_names}
        shape = model.operation_model(names[operation]).input_shape
        options = {f"--{xform_name(name, '-')}" for name in (shape.members if shape else ())}
        # A switch of EMR's in the CLI, for --cluster-states.
        options |= {"--active"} if (service, operation) == ("emr", "list-clusters") else set()
        used = {word for word in arguments if word.startswith("--")}
        assert used <= options | GLOBAL, (service, operation)


def test_files_that_commands_name_are_there(home: Path) -> None:
    named = {
        word
        for command in ("aws", "docker")
        for arguments in calls(home, command)
        for word in arguments
        if word.startswith(("emr/", "jobs/"))
    }
    assert named >= {"emr/cloudformation/nightly.yaml", "emr/packaging/Dockerfile"}
    assert all((EMR.parent / name).exists() for name in named)


def test_jobs_on_the_primary_node_are_given_what_they_take(home: Path) -> None:
    submitted = calls(home, "spark-submit")
    assert len(submitted) == 2
    for arguments in submitted:
        (script,) = [word for word in arguments if word.endswith("ingest.py")]
        assert script == "/opt/slicemill/jobs/ingest.py"
        check_arguments("ingest", arguments[arguments.index(script) + 1 :])
