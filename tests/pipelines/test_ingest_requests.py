"""What ingest asks of S3, counted at the server."""

from __future__ import annotations

import json
import logging
import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto.server import ThreadedMotoServer
from raw_builder import write_scan

_REQUEST = re.compile(r"(GET|PUT|HEAD|DELETE|POST) (\S+) HTTP")


class Requests(logging.Handler):
    """Requests that the server logged: method and path."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.seen: list[tuple[str, str]] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Take a request's method and path out of the server's access log."""
        found = _REQUEST.search(record.getMessage())
        if found:
            self.seen.append((found[1], found[2]))

    def take(self) -> Counter[str]:
        """Count by kind since the last call."""
        kinds: Counter[str] = Counter()
        for method, path in self.seen:
            if method == "GET" and "list-type=2" in path:
                kinds["LIST raw" if "prefix=raw" in path else "LIST"] += 1
            elif ".tif" in path:
                kinds[f"{method} slice"] += 1
            else:
                kinds[method] += 1
        self.seen.clear()
        return kinds


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Requests]:
    """A server of this test's own, so that nobody else's requests are counted."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "synthetic")
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.setenv(name, "us-east-1")
    log = logging.getLogger("werkzeug")
    before = log.level
    requests = Requests()
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://{}:{}".format(*server.get_host_and_port()))
    log.addHandler(requests)
    log.setLevel(logging.INFO)
    yield requests
    log.removeHandler(requests)
    log.setLevel(before)
    server.stop()


def ingest() -> dict[str, Any]:
    command = [str(Path(sys.executable).parent / "slicemill"), "ingest", "--raw", "s3://counted/raw"]
    done = subprocess.run(
        [*command, "--lake", "s3://counted/lake"],
        capture_output=True,
        text=True,
        env={**os.environ, "SLICEMILL_MASTER": "local[2]"},
        timeout=300,
        check=True,
    )
    summary: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return summary


@pytest.mark.slow
def test_one_get_a_slice_once_and_one_list_a_thousand_keys(server: Requests, tmp_path: Path) -> None:
    client = boto3.client("s3", endpoint_url=os.environ["AWS_ENDPOINT_URL"])
    client.create_bucket(Bucket="counted")
    objects = 0
    for scan in range(11):
        folder = write_scan(tmp_path, f"TEST_AA_{scan:04}_20200101", slices=10, side=8)
        for path in folder.iterdir():
            key = f"raw/{path.relative_to(tmp_path)}"
            client.put_object(Bucket="counted", Key=key, Body=path.read_bytes())
            objects += 1
    server.take()

    assert ingest()["slices"] == 110
    first = server.take()
    assert first["GET slice"] == objects
    assert first["HEAD slice"] == 0
    assert first["LIST raw"] == 1
    assert first["LIST"] <= 5

    assert ingest()["skipped_unchanged"] == 11
    second = server.take()
    assert second["GET slice"] == second["HEAD slice"] == 0
    assert second["LIST raw"] == 1
    # The lake's card, its three tables and the lock: no request grows with the number of scans.
    assert second["GET"] + second["HEAD"] + second["LIST"] <= 20
