"""The primary node of a cluster on this machine: environment, configuration, and running a step's words.

Its folders are those of a node inside `scripts/yarn-local.sh` alone, which also brings Spark and YARN.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import psutil

from slicemill import __version__
from slicemill.emr.capacity.shapes import SHAPES
from slicemill.emr.requests.configurations import configurations
from slicemill.emr.requests.job_settings import DISCOVERY, HOME
from slicemill.emr.site import Site

#: Befalls the process of a step that runs on a node with this work folder.
Strike = Callable[[Path, psutil.Process], None]

ROOT = Path(__file__).parents[2]
#: A step that takes longer hangs.
STEP_SECONDS = 1800
#: Not in an environment: the cluster brings Spark, and slicemill is packed itself.
_LEFT_OUT = ("pyspark", "py4j", "slicemill", "__editable__")

#: `aws s3 cp`, for the bootstrap action.
_AWS = """#!{python}
import sys

import boto3

source, target = sys.argv[-2:]
bucket, _, key = source.removeprefix("s3://").partition("/")
boto3.client("s3").download_file(bucket, key, target)
"""


@dataclass(frozen=True)
class Outcome:
    """How a command ended."""

    code: int
    seconds: float
    log: Path
    """Its output and its errors."""

    @property
    def summary(self) -> dict[str, object]:
        """The job's last line, which in cluster mode is in a container's output; empty if it has none."""
        text = self.log.read_text("utf-8", "replace")
        application = re.search(r"application_\d+_\d+", text)
        if application:
            for file in self.log.parents[1].glob(f"node*/logs/{application[0]}/*/stdout"):
                text += file.read_text("utf-8", "replace")
        line = next((line for line in reversed(text.splitlines()) if line.startswith('{"job"')), "{}")
        return dict(json.loads(line))


def pack_environment(folder: Path) -> Path:
    """An archive like `build_env.sh`'s, whose packages stay in the development environment; without PySpark.

    So it is built in a second and weighs nothing. Whether the packages can be packed, it does not show.
    """
    shutil.rmtree(folder, ignore_errors=True)
    packages, env = folder / "packages", folder / "environment"
    packages.mkdir(parents=True)
    (own,) = (path for path in map(Path, sys.path) if path.name == "site-packages")
    for path in own.iterdir():
        if not path.name.startswith(_LEFT_OUT) and path.suffix != ".pth":
            (packages / path.name).symlink_to(path)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(env)], check=True)
    (site,) = env.glob("lib/python3*/site-packages")
    (site / "packages.pth").write_text(f"{packages}\n", "ascii")
    shutil.copytree(
        ROOT / "src" / "slicemill", site / "slicemill", ignore=shutil.ignore_patterns("__pycache__")
    )
    shutil.copytree(ROOT / "jobs", env / "jobs", ignore=shutil.ignore_patterns("__pycache__"))
    for script in (env / "bin").iterdir():
        if not script.name.startswith("python"):
            script.unlink()
    shutil.copy(ROOT / "src" / "slicemill" / "emr" / "requests" / "discover_gpus.sh", env / DISCOVERY)
    draft = folder / "environment.tar.gz"
    with tarfile.open(draft, "w:gz", compresslevel=1) as tar:
        tar.add(env, ".")
    digest = hashlib.sha256(draft.read_bytes()).hexdigest()
    return draft.rename(folder / f"slicemill-{__version__}-rehearsal-{os.uname().machine}-{digest}.tar.gz")


class Node:
    """A primary node whose variables are those of EMR's, and no more."""

    def __init__(self, work: Path, site: Site, endpoint: str) -> None:
        self._work, self._site, self._endpoint = work, site, endpoint
        self._count, self._closed = 0, False
        self._process: subprocess.Popen[bytes] | None = None
        commands = work / "commands"
        commands.mkdir(parents=True, exist_ok=True)
        (commands / "aws").write_text(_AWS.format(python=sys.executable), "utf-8")
        (commands / "aws").chmod(0o755)

    def bootstrap(self, archive: str, variables: Mapping[str, str]) -> Outcome:
        """Run the bootstrap action that unpacks an environment."""
        script = ROOT / "emr" / "bootstrap" / "environment.sh"
        store = {"SLICEMILL_STORE": str(self._work / "store")}
        return self.run("bootstrap", ["bash", str(script), archive], {**variables, **store})

    def run(
        self,
        name: str,
        words: Sequence[str],
        variables: Mapping[str, str],
        *,
        configured: bool = True,
        strike: Strike | None = None,
    ) -> Outcome:
        """Run a step's words as they are, by the variables of a role.

        Args:
            name: Of the log.
            words: The command, as command-runner.jar takes it.
            variables: Credentials of a role, and where AWS is.
            configured: Whether the cluster was started with our configurations.
            strike: What befalls it.
        """
        self._count += 1
        log = self._work / "logs" / f"{self._count:02}-{name}.log"
        # The development environment is not on the path, nor is its folder the current one.
        environ = {
            "HOME": str(self._work / "home"),
            "PATH": f"{self._work / 'commands'}:{os.environ['SPARK_HOME']}/bin:/usr/local/bin:/usr/bin:/bin",
            "SPARK_HOME": os.environ["SPARK_HOME"],
            "SPARK_CONF_DIR": str(self._configure(variables, configured)),
            "HADOOP_CONF_DIR": os.environ["HADOOP_CONF_DIR"],
            "SPARK_LOCAL_IP": "127.0.0.1",
            **{key: os.environ[key] for key in ("JAVA_HOME",) if key in os.environ},
            **variables,
        }
        Path(environ["HOME"]).mkdir(exist_ok=True)
        start = time.monotonic()
        with log.open("wb") as file:
            file.write(f"{shlex.join(words)}\n".encode())
            file.flush()
            code = self._wait(words, environ, file, strike)
        return Outcome(code, time.monotonic() - start, log)

    def close(self) -> None:
        """End the step that runs; none runs afterwards."""
        self._closed = True
        self._end()

    def _wait(
        self, words: Sequence[str], environ: Mapping[str, str], log: BinaryIO, strike: Strike | None
    ) -> int:
        if self._closed:
            return 143
        # A group of its own: spark-submit's driver would outlive spark-submit.
        process = self._process = subprocess.Popen(
            words,
            cwd=environ["HOME"],
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        if strike:
            step = psutil.Process(process.pid)
            threading.Thread(target=strike, args=(self._work, step), daemon=True).start()
        try:
            return process.wait(STEP_SECONDS)
        except subprocess.TimeoutExpired:
            return 124
        finally:
            self._end()

    def _end(self) -> None:
        if self._process and self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def _configure(self, variables: Mapping[str, str], configured: bool) -> Path:
        """Spark's folder of configuration on a cluster of this role."""
        folder = self._work / "spark-conf" / f"{variables['AWS_ACCESS_KEY_ID']}-{configured}"
        folder.mkdir(parents=True, exist_ok=True)
        rows = configurations(SHAPES["cpu"], self._site) if configured else []
        properties = {row["Classification"]: row for row in rows}
        defaults = properties["spark-defaults"]["Properties"] if configured else {}
        settings = {**defaults, **self._machine_settings(variables)}
        (folder / "spark-defaults.conf").write_text(
            "".join(f"{key} {value}\n" for key, value in settings.items()), "utf-8"
        )
        exports = properties["spark-env"]["Configurations"][0]["Properties"] if configured else {}
        (folder / "spark-env.sh").write_text(
            "".join(f"export {key}={value}\n" for key, value in exports.items()), "utf-8"
        )
        return folder

    def _machine_settings(self, variables: Mapping[str, str]) -> dict[str, str]:
        """What a node of EMR has by itself: jars, a file system, S3, and its role's credentials."""
        settings = {
            "spark.yarn.jars": f"local:{os.environ['SPARK_HOME']}/jars/*",
            "spark.yarn.stagingDir": "viewfs://shared/staging",
            "spark.ui.enabled": "false",
            "spark.hadoop.fs.s3.impl": "org.apache.hadoop.fs.s3a.S3AFileSystem",
            "spark.hadoop.fs.s3a.endpoint": self._endpoint,
            "spark.hadoop.fs.s3a.endpoint.region": self._site.region,
            "spark.hadoop.fs.s3a.path.style.access": "true",
            "spark.hadoop.fs.s3a.connection.ssl.enabled": "false",
        }
        # Where a container of EMR asks its instance.
        names = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_ENDPOINT_URL")
        for key in ("spark.executorEnv", "spark.yarn.appMasterEnv"):
            settings[f"{key}.SPARK_LOCAL_IP"] = "127.0.0.1"
            # Threads for each of the nodes' cores, which here are few, must not wait for one another busily.
            settings[f"{key}.OMP_WAIT_POLICY"] = "PASSIVE"
            settings |= {f"{key}.{name}": variables[name] for name in names}
        return settings


@contextmanager
def bare() -> Iterator[None]:
    """A node of a cluster that others started: no environment lies at its place."""
    link = Path(HOME)
    target = link.readlink()
    link.unlink()
    try:
        yield
    finally:
        link.symlink_to(target)
