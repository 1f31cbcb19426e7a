"""Entries that a thread of its own makes ahead of whoever takes them."""

from __future__ import annotations

import queue
import threading
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

from slicemill.errors import TrainingError

T = TypeVar("T")

#: Seconds without an entry after which the reader counts as hung.
PATIENCE = 300.0

#: Seconds that the thread has to end after the last entry was taken.
_FAREWELL = 10.0


@dataclass(frozen=True)
class _End:
    """Comes after the last entry, with the error that ended them if there was one."""

    error: BaseException | None = None


@contextmanager
def read_ahead(source: Generator[T, None, None], depth: int) -> Iterator[Iterator[T]]:
    """The entries of `source` in order, made from now on and at most `depth` ahead; leaving closes `source`.

    An error of the source comes where its entry would have; TrainingError if none comes for `PATIENCE`
    seconds.
    """
    handed: queue.Queue[T | _End] = queue.Queue(depth)
    stop = threading.Event()
    thread = threading.Thread(target=_produce, args=(source, handed, stop), name="slice-reader", daemon=True)
    thread.start()
    try:
        yield _taken(handed)
    finally:
        stop.set()
        thread.join(timeout=_FAREWELL)


def _produce(source: Generator[T, None, None], handed: queue.Queue[T | _End], stop: threading.Event) -> None:
    try:
        for entry in source:
            if not _offer(handed, entry, stop):
                return
        _offer(handed, _End(), stop)
    except BaseException as error:
        _offer(handed, _End(error), stop)
    finally:
        source.close()


def _offer(handed: queue.Queue[T | _End], entry: T | _End, stop: threading.Event) -> bool:
    while not stop.is_set():
        try:
            handed.put(entry, timeout=0.2)
            return True
        except queue.Full:
            continue
    return False


def _taken(handed: queue.Queue[T | _End]) -> Iterator[T]:
    while True:
        try:
            entry = handed.get(timeout=PATIENCE)
        except queue.Empty:
            raise TrainingError(
                "the reader hangs", expected="an entry", found=f"none in {PATIENCE:.0f} s"
            ) from None
        if isinstance(entry, _End):
            if entry.error is not None:
                raise entry.error
            return
        yield entry
