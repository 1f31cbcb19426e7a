from __future__ import annotations

import json
import logging
import os
import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from slicemill.core.training.plan import TrainPlan
from slicemill.experiments import training
from slicemill.io import storage
from slicemill.io.places import Run
from slicemill.model.training.rank_run import train

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
def counted(s3: str) -> Iterator[Requests]:
    """Requests that the tests' server gets from now on: one test runs at a time."""
    if "SLICEMILL_TEST_S3_ENDPOINT" in os.environ:
        pytest.skip("another server's requests can't be counted here")
    log = logging.getLogger("werkzeug")
    before = log.level
    requests = Requests()
    log.addHandler(requests)
    log.setLevel(logging.INFO)
    yield requests
    log.removeHandler(requests)
    log.setLevel(before)


@pytest.fixture
def launched_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Training on one rank in this process: what starts ranks is tested where it is built."""

    def launch(spark: object, plan: TrainPlan) -> Any:
        storage.remove(Run.of(plan).started)
        return json.loads(train(plan.to_json()))

    monkeypatch.setattr(training, "launch", launch)
