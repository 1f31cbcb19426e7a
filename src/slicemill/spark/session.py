"""Open the Spark session of a job: the cluster's under spark-submit, an embedded local one otherwise."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeAlias

from pyspark.errors import PySparkRuntimeError
from pyspark.sql import SparkSession

from slicemill.errors import MachineError
from slicemill.spark.connector import s3a_settings
from slicemill.spark.request import submitted

#: A session, for rooms that pass one on and do not know Spark.
Session: TypeAlias = SparkSession

#: Java versions that Spark 4.0 runs on.
JAVA_VERSIONS = (17, 21)

#: Ours whoever starts the session: patient ids such as 0042 stay text.
_ALWAYS = {"spark.sql.sources.partitionColumnTypeInference.enabled": "false"}

_LOGGING = Path(__file__).with_name("log4j2.properties")

_EMBEDDED = {
    "spark.driver.memory": "2g",
    "spark.ui.enabled": "false",
    "spark.ui.showConsoleProgress": "false",
    "spark.sql.shuffle.partitions": "8",
    "spark.driver.bindAddress": "127.0.0.1",
    "spark.driver.host": "127.0.0.1",
    "spark.driver.extraJavaOptions": f"-Dlog4j2.configurationFile={_LOGGING.as_uri()}",
}


@contextmanager
def open_session(name: str, *, slots: int = 1) -> Iterator[SparkSession]:
    """A session for one job, stopped at the end; see `start_session`."""
    spark = start_session(name, slots=slots)
    try:
        yield spark
    finally:
        spark.stop()


@contextmanager
def given_or_new(spark: SparkSession | None, name: str, *, slots: int = 1) -> Iterator[SparkSession]:
    """The caller's session, which stays open; without one a session that ends with the block."""
    if spark is not None:
        yield spark
        return
    with open_session(name, slots=slots) as session:
        yield session


def start_session(name: str, *, slots: int = 1) -> SparkSession:
    """A session that stays, for notebooks: the one that is there already, or a new one.

    `slots` tasks must be able to run at once; an embedded session takes that many threads if the machine
    has fewer cores. Raises MachineError if Java is missing or wrong.
    """
    # Workers must run this interpreter, not whatever python3 is first on the path.
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    builder = SparkSession.builder.appName(f"slicemill {name}")
    if not submitted():
        os.environ.setdefault("SPARK_LOCAL_IP", "127.0.0.1")
        cores = len(os.sched_getaffinity(0))
        # Retries stay possible, as on a cluster: one lost task does not end the job.
        builder = builder.master(os.environ.get("SLICEMILL_MASTER", f"local[{max(cores, slots)},3]"))
        for key, value in _EMBEDDED.items():
            builder = builder.config(key, value)
    for key, value in {**_ALWAYS, **s3a_settings(os.environ)}.items():
        builder = builder.config(key, value)
    try:
        return builder.getOrCreate()
    except PySparkRuntimeError as error:
        raise MachineError(
            "Spark did not start",
            expected=f"Java {' or '.join(map(str, JAVA_VERSIONS))}",
            found=found_java(),
            advice="Install one of them and set JAVA_HOME.",
        ) from error


def found_java() -> str:
    """What `java -version` says in its first line, or that there is none."""
    home = os.environ.get("JAVA_HOME")
    java = shutil.which(os.path.join(home, "bin", "java")) if home else shutil.which("java")
    if java is None:
        return f"no java in JAVA_HOME ({home})" if home else "no java on the PATH"
    output = subprocess.run([java, "-version"], capture_output=True, text=True, check=False).stderr
    return output.splitlines()[0] if output else f"{java}, which says nothing"


def cores(spark: SparkSession) -> int:
    """Tasks that the session runs at once."""
    return spark.sparkContext.defaultParallelism


def parts_for(spark: SparkSession, scans: int, work: int, work_per_task: int) -> int:
    """Spark tasks to cut `scans` into, `work` being their size in any unit.

    As many for each core, none much larger than `work_per_task`, so that a lost one is no great loss; not
    more, because starting a task takes a sixth of a second.
    """
    waves = max(1, -(-work // (work_per_task * cores(spark))))
    return max(1, min(scans, waves * cores(spark)))
