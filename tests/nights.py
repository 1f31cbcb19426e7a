"""Night after night over a storage that fails at random; Spark is left out.

    python tests/nights.py [--nights 50] [--seed 7]

Each night a scan arrives, whole, and an ingest runs over an S3 server behind a proxy that refuses, resets,
delays, cuts and flips. Some nights the run is stopped for a while (SIGSTOP) or killed (SIGKILL). A night that
says that it is done has all scans, no night takes a fault for bad content, and at the end the lake holds the
same objects as one that was ingested in calm.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
import multiprocessing
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

from raw_builder import write_scan
from s3_proxy import (
    FaultProxy,
    broken_off,
    changed,
    clock,
    flipped,
    refused,
    reset,
    running,
    slow,
    stored_then,
)

from slicemill.config import IngestConfig
from slicemill.errors import SlicemillError
from slicemill.io import storage
from slicemill.io.storage import s3_client
from slicemill.io.storage.uri import join, relative
from slicemill.pipelines import ingest
from slicemill.types import Uri

FAULTS = {
    "403": refused("AccessDenied", 403),
    "404": refused("NoSuchKey", 404),
    "500": refused("InternalError", 500),
    "503": refused("SlowDown", 503),
    "stored, then 500": stored_then("InternalError", 500),
    "reset": reset,
    "broken off": broken_off,
    "slow body": slow(0.05),
    "flipped byte": changed(flipped),
    "cut body": changed(lambda body: body[: len(body) // 2]),
    "clock an hour ahead": clock(ahead=3600),
}
#: Faults of a night, and the share of requests that each spoils.
FAULTS_A_NIGHT, SHARE = 3, 0.02
#: Signals that a run gets in the night, and the share of nights that have one.
SIGNALS, SIGNALLED = (signal.SIGSTOP, signal.SIGKILL), 0.3
STOPPED_SECONDS = 2.0

Summary = dict[str, Any]
#: Runs a night's ingest: raw folder, lake, and the signal that it gets.
Night = Callable[[Uri, Uri, "signal.Signals | None"], Summary]


@dataclass
class Diary:
    """What the nights were like: how often each fault was set, and what the runs said."""

    faults: Counter[str] = field(default_factory=Counter)
    statuses: Counter[str] = field(default_factory=Counter)


def night_here(raw: Uri, lake: Uri, interruption: signal.Signals | None = None) -> Summary:
    """The summary of one night's ingest, in this process, which gets no signal."""
    try:
        return ingest.run(IngestConfig(raw=(raw,), lake=lake))
    except SlicemillError as error:
        return {"status": "failed", "error": str(error)}


def night_in_child(raw: Uri, lake: Uri, interruption: signal.Signals | None = None) -> Summary:
    """The same in a process of its own, which is stopped or killed a moment after it began."""
    # A fork has everything imported; nothing is in flight here when it begins, and its S3 client is its own.
    context = multiprocessing.get_context("fork")
    answers, answer = context.Pipe(duplex=False)
    child = context.Process(target=_night, args=(raw, lake, answer))
    child.start()
    answer.close()
    if interruption is not None:
        time.sleep(random.uniform(0.2, 2.0))
        _send(child.pid or 0, interruption)
    try:
        summary: Summary = answers.recv()
    except EOFError:
        summary = {"status": "killed"}
    child.join()
    return summary


def _send(pid: int, interruption: signal.Signals) -> None:
    try:
        os.kill(pid, interruption)
        if interruption == signal.SIGSTOP:
            time.sleep(STOPPED_SECONDS)
            os.kill(pid, signal.SIGCONT)
    except ProcessLookupError:
        return


def _night(raw: Uri, lake: Uri, answer: Any) -> None:
    answer.send(night_here(raw, lake))


@contextmanager
def spoiled(server: str, seed: int) -> Iterator[FaultProxy]:
    """A fault proxy in front of `server` that S3 clients go through."""
    with running(server, seed) as proxy, mock.patch.dict(os.environ, AWS_ENDPOINT_URL=proxy.endpoint):
        s3_client._client.cache_clear()
        yield proxy
    s3_client._client.cache_clear()


def deliver(folder: Path, raw: Uri, number: int) -> None:
    """A new scan arrives, whole."""
    scan_id = f"TEST_AA_{number:04}_20200101"
    for path in write_scan(folder, scan_id, slices=3, side=16).iterdir():
        storage.write_bytes(join(raw, scan_id, path.name), path.read_bytes())


def objects(lake: Uri) -> dict[str, str]:
    """Every object of a lake, by name; data by hash too, since other objects name their run and its time."""
    names = [relative(file.uri, lake) for file in storage.list_files(lake)]
    return {
        name: hashlib.sha256(storage.read_bytes(join(lake, name))).hexdigest()
        if name.startswith(("slices/", "profile/"))
        else ""
        for name in names
    }


def nights(home: Uri, proxy: FaultProxy, folder: Path, number: int, seed: int, night: Night) -> Diary:
    """Let `number` nights pass over `home` and compare; AssertionError for a night that is not true."""
    raw, lake, calm = (join(home, name) for name in ("raw", "lake", "calm"))
    chance, diary = random.Random(seed), Diary()
    for count in range(1, number + 1):
        deliver(folder, raw, count)
        names = chance.sample(sorted(FAULTS), FAULTS_A_NIGHT)
        for name in names:
            proxy.spoil(FAULTS[name], share=SHARE)
        interruption = None
        if night is not night_here and chance.random() < SIGNALLED:
            interruption = chance.choice(SIGNALS)
        summary = night(raw, lake, interruption)
        proxy.heal()
        diary.faults.update([*names, *([interruption.name] if interruption else [])])
        diary.statuses[summary["status"]] += 1
        # A night that says that it is done has all scans, and no night takes a fault for bad content.
        if summary["status"] == "done":
            assert summary["scans"] == count, summary
        assert summary.get("quarantined", 0) == 0, summary
    assert night_here(raw, lake)["status"] == "done"
    assert night_here(raw, calm)["status"] == "done"
    assert objects(lake) == objects(calm)
    return diary


def main() -> None:
    """Let the nights pass over a server of this process, and print what they were like."""
    import boto3
    from moto.server import ThreadedMotoServer

    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--nights", type=int, default=50)
    parser.add_argument("--seed", type=int, default=7)
    options = parser.parse_args()
    logging.disable(logging.CRITICAL)
    os.environ |= {
        "AWS_ACCESS_KEY_ID": "synthetic",
        "AWS_SECRET_ACCESS_KEY": "synthetic",
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    with (
        spoiled("http://{}:{}".format(*server.get_host_and_port()), options.seed) as proxy,
        tempfile.TemporaryDirectory() as folder,
    ):
        boto3.client("s3").create_bucket(Bucket="nights")
        random.seed(options.seed)
        diary = nights("s3://nights", proxy, Path(folder), options.nights, options.seed, night_in_child)
    server.stop()
    sys.stdout.write(
        json.dumps({"nights": options.nights, "faults": diary.faults, "statuses": diary.statuses}) + "\n"
    )


if __name__ == "__main__":
    main()
