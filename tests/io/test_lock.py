from __future__ import annotations

import json
import multiprocessing
import os
import socket
import time
from pathlib import Path

import pytest

from slicemill.errors import BusyError
from slicemill.io import storage
from slicemill.io.storage.lock import LOCK_NAME, STALE_SECONDS, sole_writer
from slicemill.io.storage.uri import canonical


def hold_until_killed(home: str, ready: object) -> None:
    with sole_writer(home, "holder"):
        ready.set()  # type: ignore[attr-defined]  # an Event of multiprocessing
        time.sleep(60)


def test_the_kernel_lets_go_of_a_killed_holder(tmp_path: Path) -> None:
    home = canonical(str(tmp_path))
    context = multiprocessing.get_context("spawn")
    ready = context.Event()
    holder = context.Process(target=hold_until_killed, args=(home, ready))
    holder.start()
    assert ready.wait(30)
    with pytest.raises(BusyError, match="another run is writing"), sole_writer(home, "second"):
        pass
    holder.kill()
    holder.join()
    with sole_writer(home, "third"):
        pass


def test_in_s3_the_second_is_refused_by_name_and_the_lock_goes_with_the_run(bucket: str) -> None:
    home = f"{bucket}/lake"
    with (
        sole_writer(home, "first"),
        pytest.raises(BusyError, match="first on"),
        sole_writer(home, "second"),
    ):
        pass
    assert not storage.exists(f"{home}/{LOCK_NAME}")


@pytest.mark.parametrize(
    ("holder", "taken"),
    [
        ({"host": "elsewhere", "pid": 1, "time": time.time() - STALE_SECONDS - 5}, True),
        ({"host": "elsewhere", "pid": 1, "time": time.time() + 3600}, False),
        ({"host": socket.gethostname(), "pid": 2**22 + 1, "time": time.time() + 3600}, True),
        ({"host": socket.gethostname(), "pid": os.getpid(), "time": time.time() + 3600}, False),
    ],
)
def test_a_lock_without_a_living_holder_is_taken_over(
    bucket: str, holder: dict[str, object], taken: bool
) -> None:
    home = f"{bucket}/lake"
    storage.write_bytes(f"{home}/{LOCK_NAME}", json.dumps({"job_id": "earlier", **holder}).encode())
    if taken:
        with sole_writer(home, "next"):
            pass
    else:
        with pytest.raises(BusyError, match="earlier"), sole_writer(home, "next"):
            pass
