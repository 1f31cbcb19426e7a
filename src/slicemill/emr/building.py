"""The environment archives, built in Docker: where Python is what it is on EMR's nodes."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

from slicemill.errors import ConfigError, MachineError

Command = tuple[str, ...]

_DOCKERFILE = Path("emr", "packaging", "Dockerfile")


def build_commands(kinds: Sequence[str], platform: str, out: Path, root: Path) -> list[Command]:
    """A `docker build` for each kind of archive. Raises ConfigError if `root` is not a checkout."""
    dockerfile = root / _DOCKERFILE
    if not dockerfile.is_file():
        raise ConfigError(
            "--root is not a checkout of slicemill", expected=f"a folder with {_DOCKERFILE}", found=str(root)
        )
    arguments = ("docker", "build", "--file", str(dockerfile), "--platform", platform)
    return [
        (*arguments, "--build-arg", f"KIND={kind}", "--output", str(out), str(root))
        for kind in dict.fromkeys(kinds)
    ]


def build(command: Command, out: Path) -> Path:
    """Run one build and return the archive that it wrote into `out`.

    Raises MachineError if Docker is not there, fails, or leaves no new archive.
    """
    before = _archives(out)
    try:
        code = subprocess.run(command, check=False).returncode
    except FileNotFoundError as error:
        raise MachineError(
            "there is no docker on the PATH",
            expected="Docker with buildx, to build where Python is what it is on EMR's nodes",
            found="none",
            advice="Or run emr/packaging/build_env.sh on Amazon Linux 2023, then `slicemill emr upload`.",
        ) from error
    # Equal packages give equal bytes, so a second build writes over the file of the first.
    after = _archives(out)
    fresh = [path for path, time in after.items() if before.get(path) != time]
    if code or len(fresh) != 1:
        raise MachineError(
            "the environment archive was not built",
            expected=f"one new archive in {out}",
            found=f"{len(fresh)} archives and exit code {code}",
            advice="What went wrong stands above, in Docker's own words.",
        )
    return fresh[0]


def _archives(out: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in out.glob("slicemill-*.tar.gz")}
