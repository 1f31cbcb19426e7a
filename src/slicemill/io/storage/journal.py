"""Optuna's journal on our storage, on disk as in S3: one object an entry, created once and never changed.

The number of an entry is its name. Who adds one writes the next name on the condition that it is free
(`storage.create`), and goes on to the next if another worker took it. So entries have one order for all, none
is lost or torn when a worker dies, and no lock is needed.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from optuna.storages.journal import BaseJournalBackend

from slicemill.io import storage
from slicemill.io.storage.uri import join
from slicemill.types import Uri


class StoredJournal(BaseJournalBackend):
    """A journal below a canonical URI."""

    def __init__(self, home: Uri) -> None:
        self._home = home
        self._next = 0

    def read_logs(self, log_number_from: int) -> Iterable[dict[str, Any]]:
        """Entries from this number on."""
        if log_number_from and not storage.exists(self._uri(log_number_from)):
            return []
        uris = {file.uri for file in storage.list_or_none(self._home)}
        numbers: list[int] = []
        while self._uri(log_number_from + len(numbers)) in uris:
            numbers.append(log_number_from + len(numbers))
        entries: list[dict[str, Any]] = storage.each(
            lambda number: storage.read_json(self._uri(number)), numbers, self._home
        )
        self._next = max(self._next, log_number_from + len(numbers))
        return entries

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Add entries after all others."""
        for log in logs:
            data = json.dumps(log, allow_nan=False).encode()
            while not storage.create(self._uri(self._next), data):
                self._next += 1
            self._next += 1

    def _uri(self, number: int) -> Uri:
        return join(self._home, f"{number:08d}.json")
