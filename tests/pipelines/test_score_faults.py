"""Scoring from and to an S3 that refuses one request in ten and breaks one connection in fifty."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto.server import DomainDispatcherApplication, create_backend_app
from raw_builder import write_scan
from run_builder import write_run
from score_outputs import outputs
from werkzeug.serving import make_server

from slicemill.io.storage.uri import canonical

SLOW_DOWN = (
    b'<?xml version="1.0" encoding="UTF-8"?>'
    b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"
)

Start = Callable[..., Any]


class Faulty:
    """An S3 server's application, with faults by the number of the request."""

    def __init__(self) -> None:
        self.inner = DomainDispatcherApplication(create_backend_app)
        self.on = False
        self.made: Counter[str] = Counter()
        self._lock = threading.Lock()

    def __call__(self, environ: dict[str, Any], start: Start) -> Iterable[bytes]:
        """Answer, refuse, drop before the answer, or break off half-way through it."""
        with self._lock:
            self.made["requests"] += self.on
            number = self.made["requests"] if self.on else 1
        if number % 10 == 0:
            self.made["503"] += 1
            start("503 Slow Down", [("Content-Type", "application/xml"), ("Connection", "close")])
            return [SLOW_DOWN]
        if number % 100 == 25:
            self.made["dropped"] += 1
            environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)
            return []
        answer = self.inner(environ, start)
        if number % 100 == 75:
            self.made["broken"] += 1
            return self._half(environ, b"".join(answer))
        return answer

    def _half(self, environ: dict[str, Any], body: bytes) -> Iterator[bytes]:
        yield body[: len(body) // 2]
        environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)


@pytest.fixture
def faulty(monkeypatch: pytest.MonkeyPatch) -> Iterator[Faulty]:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "synthetic")
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.setenv(name, "us-east-1")
    application = Faulty()
    server = make_server("127.0.0.1", 0, application, threaded=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_port}")
    yield application
    server.shutdown()
    thread.join()


def score_to(name: str, *, master: str = "") -> dict[str, Any]:
    environment = {**os.environ, "SLICEMILL_MASTER": master}
    command = [str(Path(sys.executable).parent / "slicemill"), "score", "--model", "s3://faulty/run"]
    done = subprocess.run(
        [*command, "--raw", "s3://faulty/raw", "--out", f"s3://faulty/{name}"],
        capture_output=True,
        text=True,
        env={name: value for name, value in environment.items() if value},
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    summary: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return summary


def fetched(client: Any, name: str, home: Path) -> Path:
    for page in client.get_paginator("list_objects_v2").paginate(Bucket="faulty", Prefix=f"{name}/"):
        for entry in page["Contents"]:
            path = home / entry["Key"]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(client.get_object(Bucket="faulty", Key=entry["Key"])["Body"].read())
    return home / name


@pytest.mark.slow
def test_nothing_is_lost(faulty: Faulty, tmp_path: Path) -> None:
    for number in range(6):
        write_scan(tmp_path / "raw", f"TEST_AA_{number:04}_20200101", slices=12)
    write_run(canonical(str(tmp_path / "run")), size=32)
    client = boto3.client("s3", endpoint_url=os.environ["AWS_ENDPOINT_URL"])
    client.create_bucket(Bucket="faulty")
    for path in [*(tmp_path / "raw").rglob("*.tif"), *(tmp_path / "run").iterdir()]:
        client.put_object(Bucket="faulty", Key=str(path.relative_to(tmp_path)), Body=path.read_bytes())
    # Without Spark: the bits are the same.
    score_to("calm")

    faulty.on = True
    summary = score_to("disturbed", master="local[2,3]")
    faulty.on = False

    assert (summary["scored"], summary["slices"], summary["quarantined"]) == (6, 72, 0)
    assert min(faulty.made[kind] for kind in ("503", "dropped", "broken")) > 1
    calm, disturbed = (outputs(fetched(client, name, tmp_path)) for name in ("calm", "disturbed"))
    assert len(calm.files) == 78
    assert disturbed == calm
