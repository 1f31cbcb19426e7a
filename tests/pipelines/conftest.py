from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Iterator

import pytest
from moto.server import ThreadedMotoServer

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
def counted_s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[Requests]:
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
