from __future__ import annotations

import dataclasses
import json
import multiprocessing
import os
import signal
import socket
import threading
import time
from pathlib import Path
from typing import Any

import boto3
import pytest
from lock_holder import hold_until_killed, hurry, write_until_refused
from s3_proxy import FaultProxy, clock, refused, stored_then

from slicemill.errors import BusyError, LockLostError, StorageError
from slicemill.io import storage
from slicemill.io.storage import fence, heartbeat
from slicemill.io.storage.fence import Holder
from slicemill.io.storage.lock import LOCK_NAME, sole_writer
from slicemill.io.storage.uri import canonical, join


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    hurry(monkeypatch.setattr)


def write_lock(home: Any, **changes: Any) -> None:
    """A lock as another process would hold it."""
    holder = Holder("earlier", "its-token", "elsewhere", 1)
    storage.write_bytes(join(home, LOCK_NAME), dataclasses.replace(holder, **changes).to_json())


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


def test_a_folder_that_may_not_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    home = canonical(str(tmp_path / "file" / "lake"))
    with pytest.raises(StorageError, match="can't be written") as caught, sole_writer(home, "first"):
        pass
    assert "\n" not in str(caught.value)


def test_in_s3_the_second_is_refused_by_name_and_the_lock_goes_with_the_run(bucket: str) -> None:
    home = canonical(f"{bucket}/lake")
    with (
        sole_writer(home, "first"),
        pytest.raises(BusyError, match="first on"),
        sole_writer(home, "second"),
    ):
        pass
    assert not storage.exists(join(home, LOCK_NAME))


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("ahead", [3600, -3600])
def test_the_age_of_a_lock_is_of_the_storages_own_clock_whatever_the_clock_here(
    bucket: str, proxy: FaultProxy, ahead: float
) -> None:
    home = canonical(f"{bucket}/lake")
    proxy.spoil(clock(ahead))
    write_lock(home)
    with pytest.raises(BusyError, match="earlier on elsewhere"), sole_writer(home, "next"):
        pass
    time.sleep(3.5)
    with sole_writer(home, "next") as held:
        held.check()


def test_the_same_host_name_in_another_container_does_not_steal(bucket: str) -> None:
    home, here = canonical(f"{bucket}/lake"), Holder.of_this_process("earlier", "token")
    for changes in ({"namespace": "pid:[1]"}, {"boot": "other"}, {"boot": None, "namespace": None}):
        write_lock(home, **{**dataclasses.asdict(here), "pid": 2**22 + 1, **changes})
        with pytest.raises(BusyError, match=socket.gethostname()), sole_writer(home, "next"):
            pass


def test_the_lock_of_a_process_that_ended_on_this_machine_is_taken_over(bucket: str) -> None:
    home, here = canonical(f"{bucket}/lake"), Holder.of_this_process("earlier", "token")
    if here.boot is None:
        pytest.skip("this system does not tell one boot from another")
    write_lock(home, **dataclasses.asdict(here))
    with pytest.raises(BusyError), sole_writer(home, "next"):
        pass
    # The same number, given to another process since.
    write_lock(home, **{**dataclasses.asdict(here), "started": "1"})
    with sole_writer(home, "next"):
        pass


@pytest.mark.parametrize("junk", [b"", b"{", b"[]", b"null", b"7", b'{"host": "x"}', b"\xff\xfe"])
def test_junk_in_the_locks_place_is_named_with_the_way_out(bucket: str, junk: bytes) -> None:
    home = canonical(f"{bucket}/lake")
    storage.write_bytes(join(home, LOCK_NAME), junk)
    with pytest.raises(BusyError, match=r"is not a lock of slicemill.*aws s3 rm"), sole_writer(home, "next"):
        pass
    assert storage.read_bytes(join(home, LOCK_NAME)) == junk


def test_a_lock_of_an_earlier_release_is_still_read(bucket: str) -> None:
    home = canonical(f"{bucket}/lake")
    old = {"job_id": "old", "host": "elsewhere", "pid": 1, "time": 1e10}
    storage.write_bytes(join(home, LOCK_NAME), json.dumps(old).encode())
    with pytest.raises(BusyError, match="old on elsewhere"), sole_writer(home, "next"):
        pass


@pytest.mark.usefixtures("quick")
def test_a_holder_that_slept_writes_nothing_more_and_leaves_its_successors_lock(bucket: str) -> None:
    home = canonical(f"{bucket}/lake")
    uri = join(home, "_commits", "scan.json")
    context = multiprocessing.get_context("spawn")
    ready, outcome = context.Event(), context.Queue()
    sleeper = context.Process(target=write_until_refused, args=(home, uri, ready, outcome))
    sleeper.start()
    assert ready.wait(60)
    os.kill(sleeper.pid or 0, signal.SIGSTOP)
    time.sleep(3.5)
    with sole_writer(home, "successor") as successor:
        successor.write(uri, b"successor")
        os.kill(sleeper.pid or 0, signal.SIGCONT)
        assert "lock" in outcome.get(timeout=60)
        sleeper.join()
        successor.check()
        assert storage.read_bytes(uri) == b"successor"
    assert not storage.exists(join(home, LOCK_NAME))


def test_a_write_that_was_on_its_way_replaces_nothing_of_the_successors(
    bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = canonical(f"{bucket}/lake")
    uri = join(home, "slices", "scan.parquet")
    with sole_writer(home, "sleeper") as sleeper:

        def check_then_sleep(self: fence.Fence) -> None:
            """The first time the lock is still there, and then its successor comes."""
            if storage.exists(uri):
                raise LockLostError("held by the successor")
            storage.write_bytes(uri, b"successor")

        monkeypatch.setattr(fence.Fence, "check", check_then_sleep)
        with pytest.raises(LockLostError):
            sleeper.write(uri, b"sleeper")
    assert storage.read_bytes(uri) == b"successor"


@pytest.mark.usefixtures("quick")
def test_a_refused_heartbeat_is_tried_again(
    bucket: str, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(heartbeat, "GIVE_UP_SECONDS", 60.0)
    home = canonical(f"{bucket}/lake")
    with sole_writer(home, "first") as held:
        proxy.spoil(refused("SlowDown", 503), method="PUT", part=LOCK_NAME, times=3)
        proxy.spoil(stored_then("InternalError", 500), method="PUT", part=LOCK_NAME, times=3)
        before = len(proxy.requests)
        while sum(request.method == "PUT" for request in proxy.requests[before:]) < 8:
            time.sleep(0.05)
        held.check()
    assert not storage.exists(join(home, LOCK_NAME))


@pytest.mark.usefixtures("quick")
def test_a_heartbeat_that_stays_refused_aborts_the_run_before_another_may_enter(
    bucket: str, proxy: FaultProxy
) -> None:
    home = canonical(f"{bucket}/lake")

    def work() -> None:
        with sole_writer(home, "first"):
            proxy.spoil(refused("SlowDown", 503), method="PUT", part=LOCK_NAME)
            time.sleep(60)
            raise AssertionError("the sleep was not interrupted")

    with pytest.raises(LockLostError, match="no refresh for"):
        work()


@pytest.mark.usefixtures("quick")
def test_a_lost_lock_ends_a_run_of_another_thread_at_its_end_at_the_latest(bucket: str) -> None:
    home = canonical(f"{bucket}/lake")
    raised: list[Exception] = []

    def hold() -> None:
        try:
            with sole_writer(home, "first"):
                storage.remove(join(home, LOCK_NAME))
                time.sleep(1)
        except LockLostError as error:
            raised.append(error)

    thread = threading.Thread(target=hold)
    thread.start()
    thread.join()
    assert len(raised) == 1


def test_of_two_that_start_at_once_one_enters(bucket: str) -> None:
    home = canonical(f"{bucket}/lake")
    entered, refusals, barrier = [], [], threading.Barrier(4)

    def start(name: str) -> None:
        barrier.wait()
        try:
            with sole_writer(home, name):
                entered.append(name)
                time.sleep(1)
        except BusyError as error:
            refusals.append(str(error))

    threads = [threading.Thread(target=start, args=(f"run-{number}",)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(entered), len(refusals)) == (1, 3)


def test_on_disk_a_writer_without_its_lock_writes_nothing(tmp_path: Path) -> None:
    home = canonical(str(tmp_path))
    with sole_writer(home, "first") as first:
        first.write(join(home, "a"), b"1")
    with sole_writer(home, "second") as second:
        with pytest.raises(LockLostError, match="no longer holds"):
            first.write(join(home, "a"), b"late")
        with pytest.raises(LockLostError, match="no longer holds"):
            first.remove(join(home, "a"))
        second.write(join(home, "b"), b"2")
    assert (tmp_path / "a").read_bytes() == b"1"
    assert os.listdir(tmp_path) != []


def test_a_fence_goes_to_workers_by_pickle(bucket: str) -> None:
    import pickle

    home = canonical(f"{bucket}/lake")
    with sole_writer(home, "first") as held:
        pickle.loads(pickle.dumps(held)).check()
    assert boto3.client("s3").list_objects_v2(Bucket=bucket.removeprefix("s3://")).get("Contents") is None
