"""What an account needs of a release: archives, jobs, bootstrap actions, and notebooks for its Workspaces."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slicemill.emr.capacity.shapes import Shape
from slicemill.emr.requests.job_settings import common_settings, job_settings
from slicemill.emr.requests.steps import PYTHON
from slicemill.emr.site import Site, output_key
from slicemill.errors import ConfigError

_ARCHIVE = re.compile(
    r"slicemill-.+-(?P<kind>cpu|gpu|registry)-(?P<architecture>\w+)-(?P<sum>[0-9a-f]{64})\.tar\.gz"
)
#: Bytes of an archive that are hashed at a time.
_BLOCK = 1 << 22

#: EMR's kernel that runs a notebook's cells on the cluster, through Livy.
_KERNEL = {"name": "pysparkkernel", "display_name": "PySpark", "language": "python"}


@dataclass(frozen=True)
class Archive:
    """A packed environment on this machine."""

    path: Path
    kind: str
    """cpu, gpu, or registry for CPU nodes."""
    architecture: str


@dataclass(frozen=True)
class Upload:
    """One object to write: from a file, or from bytes that were made of one."""

    uri: str
    source: Path
    content: bytes | None = None


def read_archive(path: Path) -> Archive:
    """An archive, checked against its name. Raises ConfigError if `build_env.sh` did not write it so."""
    match = _ARCHIVE.fullmatch(path.name)
    if not match or not path.is_file():
        raise ConfigError(
            "--archive is not a packed environment",
            expected="slicemill-VERSION-KIND-ARCHITECTURE-SHA256.tar.gz, as build_env.sh writes it",
            found=str(path) if path.is_file() else f"no file {path}",
        )
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    if digest.hexdigest() != match["sum"]:
        raise ConfigError(
            f"{path.name} is not what its name says",
            expected=match["sum"],
            found=digest.hexdigest(),
            advice="Build it again.",
        )
    return Archive(path, match["kind"], match["architecture"])


def uploads(
    root: Path, site: Site, archives: Sequence[Archive], workspace: str | None, nodes: Shape
) -> list[Upload]:
    """Every object of a release, from a checkout at `root`. Raises ConfigError if it is not one.

    `workspace`: s3:// URI of a Workspace's folder, for the notebooks; None leaves them out. `nodes`: the
    shape that their sessions run on.
    """
    scripts = [(f"jobs/{path.name}", path) for path in sorted((root / "jobs").glob("*.py"))]
    scripts += [(f"bootstrap/{path.name}", path) for path in sorted((root / "emr/bootstrap").glob("*.sh"))]
    if not scripts:
        raise ConfigError(
            "--root is not a checkout of slicemill",
            expected="a folder with jobs/ and emr/bootstrap/",
            found=str(root),
        )
    plan = [Upload(site.code(*key.split("/")), path) for key, path in scripts]
    plan += [Upload(site.code("environments", archive.path.name), archive.path) for archive in archives]
    if workspace:
        plan += [
            Upload(f"{workspace.rstrip('/')}/{path.name}", path, emr_notebook(path.read_bytes(), site, nodes))
            for path in sorted((root / "notebooks").glob("*.ipynb"))
        ]
    return plan


def emr_notebook(data: bytes, site: Site, nodes: Shape) -> bytes:
    """A notebook as a Workspace runs it: EMR's kernel, and a first cell that gives its session our Python.

    The session's executors are those of scoring on these nodes, not EMR's own sizes.
    """
    notebook: dict[str, Any] = json.loads(data)
    settings = (
        common_settings(site.region)
        | job_settings("score", nodes)
        | {
            "spark.pyspark.python": PYTHON,
            "spark.pyspark.virtualenv.enabled": "false",
        }
    )
    # Session properties of their own in Livy, which refuses them among the others.
    first = {
        "driverMemory": "4g",
        "executorMemory": settings.pop("spark.executor.memory"),
        "executorCores": int(settings.pop("spark.executor.cores")),
        "numExecutors": int(settings.pop("spark.executor.instances")),
        "conf": settings,
    }
    cell: dict[str, Any] = {
        "cell_type": "code",
        "id": "emr-session",
        "metadata": {},
        "execution_count": None,
        "outputs": [],
        "source": f"%%configure -f\n{json.dumps(first, indent=2)}",
    }
    notebook["cells"] = [cell, *notebook["cells"]]
    notebook["metadata"] = {**notebook["metadata"], "kernelspec": _KERNEL}
    return (json.dumps(notebook, indent=1) + "\n").encode()


def with_environments(site_rows: Sequence[dict[str, str]], uris: dict[str, str]) -> list[dict[str, str]]:
    """A site file's rows with the environments that were uploaded last, by kind."""
    keys = {output_key(f"{kind}_environment"): uri for kind, uri in uris.items()}
    earlier_rows = [row for row in site_rows if row["OutputKey"] not in keys]
    return earlier_rows + [{"OutputKey": key, "OutputValue": uri} for key, uri in keys.items()]
