"""What the tests share: one Spark session, one S3 server, one small synthetic data set."""

from __future__ import annotations

import os
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

# Spark, boto3 and moto take seconds to import: the fixtures do, for the tests that need them.
if TYPE_CHECKING:
    from pyspark.sql import SparkSession

#: Another S3 server to test against, with keys in AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY.
OTHER_S3 = "SLICEMILL_TEST_S3_ENDPOINT"

# Drivers here live for a minute: the JVM's second compiler costs more processor time than it saves.
os.environ.setdefault("SPARK_SUBMIT_OPTS", "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC")
# Test files run side by side on tiny arrays: more threads in each would only wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")

#: The network of tests/tiny_network.py, which the session's workers may build: trained in a moment.
OWN_NETWORK = "tiny_network:tiny_network"


#: Files that take longest, in this order: one that begins last would keep the other worker waiting.
LONGEST = (
    "test_score_cluster.py",
    "test_jobs.py",
    "test_notebooks.py",
    "test_train.py",
    "test_crossval.py",
    "test_kills.py",
    "test_score_faults.py",
    "test_committee.py",
    "test_loader.py",
    "test_tracked_folds.py",
)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark the tests that take the Spark session; of several workers, give the longest files out first."""
    for item in items:
        if "spark" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.spark)
    if hasattr(config, "workerinput"):
        place = {name: at for at, name in enumerate(LONGEST)}
        slow = Counter(item.path for item in items if item.get_closest_marker("slow"))
        with_spark = {item.path for item in items if item.get_closest_marker("spark")}
        items.sort(
            key=lambda item: (
                place.get(item.path.name, len(LONGEST)),
                -slow[item.path],
                item.path not in with_spark,
            )
        )


@pytest.fixture(scope="session")
def s3() -> Iterator[str]:
    """Endpoint of the S3 server that every client in this process and its children now talks to."""
    from moto.server import ThreadedMotoServer

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_REGION", os.environ.get("AWS_REGION", "us-east-1"))
        patch.setenv("AWS_DEFAULT_REGION", os.environ["AWS_REGION"])
        patch.delenv("AWS_ENDPOINT_URL_S3", raising=False)
        other = os.environ.get(OTHER_S3)
        if other:
            patch.setenv("AWS_ENDPOINT_URL", other)
            yield other
            return
        patch.setenv("AWS_ACCESS_KEY_ID", "synthetic")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "synthetic")
        for name in ("AWS_SESSION_TOKEN", "AWS_PROFILE"):
            patch.delenv(name, raising=False)
        server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
        server.start()
        endpoint = "http://{}:{}".format(*server.get_host_and_port())
        patch.setenv("AWS_ENDPOINT_URL", endpoint)
        yield endpoint
        server.stop()


@contextmanager
def _new_bucket() -> Iterator[str]:
    import boto3

    name = f"slicemill-{uuid.uuid4().hex[:12]}"
    client = boto3.client("s3")
    client.create_bucket(Bucket=name)
    yield f"s3://{name}"
    for page in client.get_paginator("list_objects_v2").paginate(Bucket=name):
        for found in page.get("Contents", ()):
            client.delete_object(Bucket=name, Key=found["Key"])
    client.delete_bucket(Bucket=name)


@pytest.fixture
def bucket(s3: str) -> Iterator[str]:
    """URI of a new, empty bucket, removed after the test."""
    with _new_bucket() as uri:
        yield uri


@pytest.fixture(scope="module")
def module_bucket(s3: str) -> Iterator[str]:
    """URI of a bucket that the tests of a module share."""
    with _new_bucket() as uri:
        yield uri


@pytest.fixture(scope="session")
def spark(s3: str) -> Iterator[SparkSession]:
    """A local session of two cores that reads and writes the S3 server's buckets as s3://.

    Its workers find the tests' modules and may build `OWN_NETWORK`.
    """
    from slicemill.spark.session import open_session

    with ExitStack() as stack:
        # Of this session only: what tests start without it works as on anyone's workstation.
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("SLICEMILL_MASTER", "local[2]")
            patch.setenv("PYTHONPATH", str(Path(__file__).parent))
            patch.setenv("SLICEMILL_NETWORKS", OWN_NETWORK)
            patch.setenv(
                "PYSPARK_SUBMIT_ARGS", "--conf spark.python.daemon.module=preloaded_daemon pyspark-shell"
            )
            session = stack.enter_context(open_session("tests"))
        yield session


@pytest.fixture(scope="module")
def own_network() -> Iterator[str]:
    """`OWN_NETWORK`, which this process may build too while the tests of this module run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SLICEMILL_NETWORKS", OWN_NETWORK)
        yield OWN_NETWORK


@pytest.fixture(scope="session")
def phantom_raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of six synthetic scans of 64 x 64 pixels; to be read only."""
    from slicemill.config import PhantomConfig
    from slicemill.pipelines import phantom

    out = tmp_path_factory.mktemp("phantom") / "raw"
    phantom.run(PhantomConfig(str(out), scans=6, size=64))
    return out
