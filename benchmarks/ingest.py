"""Ingest against what the same machine can do without it.

    python benchmarks/ingest.py --raw FOLDER [--times 10]

All sides read the same scans in one run, warm from the page cache, after Spark has started:

- slicemill: discovery, integrity, decode, profile, quarantine, Parquet and tables, as `slicemill ingest`.
- two plain processes: Pillow, then pyarrow with zstd; no check, no statistics.
- the same two processes, which also take what the manifest must hold: SHA-256 of each file, of each image and
  mask, and of each output.
- naive Spark: `binaryFile`, image and mask joined, decoded in `mapInPandas`, shuffled by patient, written.

For the larger set every scan is linked under `--times` names, so that the start of Spark's job counts little;
its rate is held against the plain processes on the smaller set. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import multiprocessing
import os
import re
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
from machine import describe
from PIL import Image
from pyspark.sql import SparkSession

from slicemill.config import IngestConfig
from slicemill.pipelines import ingest
from slicemill.spark.session import open_session

#: Runs before the first timed one: the JVM compiles what it runs often.
WARM_UPS = 3

SLICE_FILE = re.compile(r"_(\d+)\.tif$")


def scan_folders(raw: Path) -> list[Path]:
    """Folders that hold slices."""
    return sorted({path.parent for path in raw.rglob("*.tif")})


def plain_process(folders: list[Path], out: Path, hashes: bool = False) -> None:
    """Decode with Pillow and write with pyarrow, one file a scan."""
    for folder in folders:
        rows, digests = [], []
        for path in sorted(folder.glob("*.tif")):
            if not SLICE_FILE.search(path.name):
                continue
            files = [path.read_bytes(), path.with_name(path.stem + "_mask.tif").read_bytes()]
            image, mask = (np.asarray(Image.open(io.BytesIO(data))) for data in files)
            planes = image.tobytes(), (mask > 0).tobytes()
            rows.append({"scan_id": folder.name, "image": planes[0], "mask": planes[1]})
            if hashes:
                digests += [hashlib.sha256(data).hexdigest() for data in (*files, *planes)]
        file = out / f"{folder.name}.parquet"
        pq.write_table(pa.Table.from_pylist(rows), file, compression="zstd")
        if hashes:
            digests.append(hashlib.sha256(file.read_bytes()).hexdigest())
            file.with_suffix(".json").write_text(json.dumps(digests))


def two_plain_processes(raw: Path, out: Path, hashes: bool = False) -> None:
    """The yardstick: the machine's two cores, each with half of the scans."""
    out.mkdir()
    folders = scan_folders(raw)
    processes = [
        multiprocessing.Process(target=plain_process, args=(folders[part::2], out, hashes)) for part in (0, 1)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()


def naive_spark(spark: SparkSession, raw: Path, out: Path) -> None:
    """What one writes first: Spark reads every file, joins masks to images and shuffles by patient."""
    from pyspark.sql import functions

    files = (
        spark.read.format("binaryFile")
        .option("recursiveFileLookup", "true")
        .option("pathGlobFilter", "*.tif")
        .load(str(raw))
    )
    named = files.select(
        functions.regexp_replace("path", r"(_mask)?\.tif$", "").alias("key"), "path", "content"
    )
    images = named.filter(~functions.col("path").endswith("_mask.tif"))
    masks = named.filter(functions.col("path").endswith("_mask.tif")).select(
        "key", functions.col("content").alias("mask_content")
    )

    def decode(batches: Iterator[Any]) -> Iterator[Any]:
        import pandas as pd

        for batch in batches:
            rows = []
            for key, content, mask_content in zip(
                batch["key"], batch["content"], batch["mask_content"], strict=True
            ):
                image, mask = (
                    np.asarray(Image.open(io.BytesIO(content))),
                    np.asarray(Image.open(io.BytesIO(mask_content))),
                )
                rows.append((key.rsplit("/", 2)[1], image.tobytes(), (mask > 0).tobytes()))
            yield pd.DataFrame(rows, columns=["patient_id", "image", "mask"])

    decoded = images.join(masks, "key").mapInPandas(decode, "patient_id string, image binary, mask binary")
    decoded.repartition("patient_id").write.partitionBy("patient_id").parquet(str(out))


def slicemill_ingest(spark: SparkSession, raw: Path, out: Path) -> None:
    """The whole pipeline behind `slicemill ingest`."""
    summary = ingest.run(IngestConfig(raw=(str(raw),), lake=str(out)), spark)
    if summary["quarantined"] or summary["read"] != summary["scans"]:
        raise SystemExit(f"unexpected: {summary}")


def timed(action: Callable[[], None]) -> float:
    """Seconds that `action` takes."""
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def worker_peak(action: Callable[[], None]) -> float:
    """The most MiB that one Python worker of Spark held while `action` ran."""
    stop, peak = threading.Event(), [0.0]

    def watch() -> None:
        while not stop.wait(0.05):
            for process in psutil.Process().children(recursive=True):
                try:
                    if "pyspark.daemon" in " ".join(process.cmdline()):
                        peak[0] = max(peak[0], process.memory_info().rss / 2**20)
                except psutil.NoSuchProcess:
                    continue

    watcher = threading.Thread(target=watch)
    watcher.start()
    action()
    stop.set()
    watcher.join()
    return peak[0]


def linked(raw: Path, times: int, home: Path) -> Path:
    """The same scans under `times` names each, as links."""
    for folder in scan_folders(raw):
        for copy in range(times):
            name = f"{folder.name}X{copy}"
            (home / name).mkdir(parents=True)
            for path in folder.glob("*.tif"):
                os.symlink(path, home / name / path.name.replace(folder.name, name, 1))
    return home


def main() -> None:
    """Run all sides and print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--raw", required=True)
    parser.add_argument("--lake", help="not used: every side writes to a temporary folder")
    parser.add_argument("--times", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    raw = Path(options.raw).resolve()
    slices = sum(1 for path in raw.rglob("*.tif") if SLICE_FILE.search(path.name))
    with tempfile.TemporaryDirectory() as temporary, open_session("bench") as spark:
        home = Path(temporary)
        for number in range(WARM_UPS):
            slicemill_ingest(spark, raw, home / f"warm{number}")
        sides: dict[str, list[float]] = {
            "slicemill": [],
            "two_plain_processes": [],
            "two_processes_that_hash": [],
            "naive_spark": [],
        }
        for number in range(options.rounds):
            ours, plain, hashing = (home / f"{side}{number}" for side in ("ours", "plain", "hashing"))
            sides["slicemill"].append(timed(partial(slicemill_ingest, spark, raw, ours)))
            sides["two_plain_processes"].append(timed(partial(two_plain_processes, raw, plain)))
            sides["two_processes_that_hash"].append(timed(partial(two_plain_processes, raw, hashing, True)))
        sides["naive_spark"].append(timed(partial(naive_spark, spark, raw, home / "naive")))
        large = linked(raw, options.times, home / "large")
        # Looking at the workers' memory takes time itself: those runs are not timed.
        small_peak = worker_peak(partial(slicemill_ingest, spark, raw, home / "watched"))
        large_seconds = timed(partial(slicemill_ingest, spark, large, home / "ours_large"))
        large_peak = worker_peak(partial(slicemill_ingest, spark, large, home / "watched_large"))
    large_rate = options.times * slices / large_seconds
    rates = {side: slices / float(np.median(seconds)) for side, seconds in sides.items()}
    peers = {side: rate for side, rate in rates.items() if side != "slicemill"}
    own = rates["slicemill"]
    print(
        json.dumps(
            {
                "vs": {side: own / rate for side, rate in peers.items()},
                "at_10x_vs": {side: large_rate / rate for side, rate in peers.items()},
                "rate_at_10x": large_rate / own,
                "worker_memory_at_10x": large_peak / small_peak,
                "slices_per_second": {side: round(rate, 1) for side, rate in rates.items()},
                "worker_peak_mib": {"1x": round(small_peak), "10x": round(large_peak)},
                "slices": slices,
                "times": options.times,
                **describe(),
            }
        )
    )


if __name__ == "__main__":
    main()
