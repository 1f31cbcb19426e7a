"""Scoring against what the same machine can do without it.

    python benchmarks/score.py --raw FOLDER [--model RUN] [--scans 12] [--times 10]

All sides predict the same slices with the same network at 256 pixels in one run, after Spark has started:

- slicemill: discovery, decode, checks, network, Dice, HD95, TIFF masks and tables, as `slicemill score`.
- the bare loop: the network alone, on tensors that lie ready in memory; one process with a thread a core, and
  one process a core, before slicemill runs and after it, whichever is fastest.
- a naive pandas UDF: the model loaded for each batch, slices and probabilities as float32 arrays through
  Arrow, memory formats as they come.

The first run of slicemill starts the Python workers and loads the model there; the others find them warm.
Without --model an untrained network is scored that calls a hundredth of all pixels tumour, as in the data.
The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import io
import json
import multiprocessing
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import safetensors.torch
import torch
from ingest import SLICE_FILE, linked, scan_folders, timed, worker_peak
from machine import describe
from PIL import Image
from pyspark.sql import SparkSession, functions

from slicemill.config import ScoreConfig
from slicemill.core.scans.normalise import RULE_NAMES
from slicemill.core.scans.scan import SEQUENCES
from slicemill.io import storage
from slicemill.io.run.card import Card, load_card, save_card, sha256, weights_uri
from slicemill.io.storage.uri import canonical, local_path
from slicemill.model.networks.registry import architecture
from slicemill.model.predicting.predictor import NetworkPredictor
from slicemill.pipelines import score
from slicemill.spark.session import open_session

SIZE = 256
NETWORK = "unet-lite0"
#: Slices of the bare loop's timed part, in batches of the size that scoring uses.
BARE_SLICES = 96
#: Rows of an Arrow batch of the naive side: its default of 10,000 would need more memory than there is.
NAIVE_BATCH = 16
WARM_RUNS = 3
#: Share of pixels that are tumour in the public data set.
TUMOUR_SHARE = 0.01


def untrained(run: str, name: str, size: int = SIZE) -> None:
    """A run with random weights, its last layer shifted so that some pixels are tumour."""
    torch.manual_seed(0)
    network = architecture(name, "segment").build().eval()
    (*_, last) = (module for module in network.modules() if isinstance(module, torch.nn.Conv2d))
    with torch.no_grad():
        logits = network(torch.randn(2, len(SEQUENCES), size, size))
        last.bias.sub_(torch.quantile(logits.flatten()[:: len(SEQUENCES)], 1 - TUMOUR_SHARE))
    data = safetensors.torch.save({name: one.contiguous() for name, one in network.state_dict().items()})
    storage.write_bytes(weights_uri(run), data)
    facts = {
        "split": "none",
        "split_hash": "0",
        "data_hash": "0",
        "metrics": {},
        "versions": {},
        "training": {},
    }
    save_card(
        run,
        Card(
            task="segment",
            architecture=name,
            channels=SEQUENCES,
            normalisation=RULE_NAMES["volume"],
            input_size=size,
            threshold=0.5,
            weights_sha256=sha256(data),
            **facts,
        ),
    )


def bare_process(run: str, threads: int, start: Any, seconds: Any) -> None:
    """Time the network alone on batches that lie ready in memory."""
    predictor = NetworkPredictor.load(run, threads=threads)
    batch = predictor.usual_batch_size
    images = torch.randn(batch, len(SEQUENCES), SIZE, SIZE).contiguous(memory_format=torch.channels_last)
    with torch.inference_mode():
        for _ in range(2):
            predictor.logits(images)
        start.wait()
        began = time.perf_counter()
        for _ in range(BARE_SLICES // batch):
            (torch.sigmoid(predictor.logits(images)) >= predictor.card.threshold).numpy()
    seconds.put(time.perf_counter() - began)


def bare_rate(run: str, processes: int, threads: int) -> float:
    """Slices a second of the bare loop on so many processes."""
    context = multiprocessing.get_context("spawn")
    start, seconds = context.Barrier(processes), context.Queue()
    workers = [
        context.Process(target=bare_process, args=(run, threads, start, seconds)) for _ in range(processes)
    ]
    for worker in workers:
        worker.start()
    slowest = max(seconds.get() for _ in workers)
    for worker in workers:
        worker.join()
    return processes * BARE_SLICES / slowest


def bare_rates(run: str) -> dict[str, float]:
    """Slices a second of the bare loop, by processes x threads: one process for all cores, and one a core."""
    cores = len(os.sched_getaffinity(0))
    return {f"{count}x{cores // count}": bare_rate(run, count, cores // count) for count in {1, cores}}


def naive_udf(spark: SparkSession, run: str, raw: Path, out: Path) -> None:
    """What one writes first: decode to arrays of floats, a pandas UDF over them, and a mask from each."""
    weights, card = str(local_path(weights_uri(run))), load_card(run)

    def decode(batches: Iterator[Any]) -> Iterator[Any]:
        for batch in batches:
            images = [np.asarray(Image.open(io.BytesIO(data)), np.float32) for data in batch["content"]]
            scaled = [((one - one.mean()) / (one.std() + 1)).transpose(2, 0, 1).ravel() for one in images]
            yield pd.DataFrame({"path": batch["path"], "image": scaled})

    @functions.pandas_udf("array<float>")
    def predict(images: pd.Series) -> pd.Series:
        network = architecture(card.architecture, card.task).build(card.training)
        network.load_state_dict(safetensors.torch.load_file(weights))
        network.eval()
        batch = torch.tensor(np.stack(images.to_numpy())).reshape(-1, len(SEQUENCES), SIZE, SIZE)
        with torch.no_grad():
            probabilities = torch.sigmoid(network(batch))
        return pd.Series(list(probabilities.reshape(len(batch), -1).numpy()))

    def write(batches: Iterator[Any]) -> Iterator[Any]:
        for batch in batches:
            for path, probability in zip(batch["path"], batch["probability"], strict=True):
                mask = (np.asarray(probability).reshape(SIZE, SIZE) >= card.threshold).astype(np.uint8) * 255
                Image.fromarray(mask).save(out / Path(path).name)
            yield batch[["path"]]

    out.mkdir()
    spark.conf.set("spark.sql.execution.arrow.maxRecordsPerBatch", str(NAIVE_BATCH))
    files = (
        spark.read.format("binaryFile")
        .option("recursiveFileLookup", "true")
        .option("pathGlobFilter", "*[0-9].tif")
        .load(str(raw))
        .repartition(spark.sparkContext.defaultParallelism)
    )
    decoded = files.mapInPandas(decode, "path string, image array<float>")
    predicted = decoded.select("path", predict("image").alias("probability"))
    predicted.mapInPandas(write, "path string").count()
    spark.conf.unset("spark.sql.execution.arrow.maxRecordsPerBatch")


def slicemill_score(spark: SparkSession, run: str, raw: Path, out: Path) -> float:
    """The whole pipeline behind `slicemill score`; slices a second from the first task to the last commit."""
    options = ScoreConfig(
        model=run, raw=(str(raw),), out=str(out), tta="none", smoothing="none", components="all"
    )
    summary = score.run(options, spark)
    if summary["quarantined"] or summary["scored"] != summary["scans"]:
        raise SystemExit(f"unexpected: {summary}")
    return float(summary["slices_per_second"])


def worker_peaks(run: str, few: Path, many: Path, home: Path) -> list[float]:
    """Peak memory of a worker in MiB, on few scans and on many.

    Fresh workers for each: memory that one kept would hide what the other takes.
    """
    peaks = []
    for folder in (few, many):
        with open_session("bench") as spark:
            out = home / f"watched-{folder.name}"
            peaks.append(worker_peak(partial(slicemill_score, spark, run, folder, out)))
        shutil.rmtree(out)
    return peaks


def chosen(raw: Path, scans: int, home: Path) -> Path:
    """Every n-th scan of the raw folder, linked."""
    folders = scan_folders(raw)
    for folder in folders[:: max(1, len(folders) // scans)][:scans]:
        (home / folder.name).mkdir(parents=True)
        for path in folder.glob("*.tif"):
            os.symlink(path, home / folder.name / path.name)
    return home


def main() -> None:
    """Run all sides and print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--raw", required=True)
    parser.add_argument("--lake", help="not used: every side reads the raw slices")
    parser.add_argument("--model", help="a training run at 256 pixels, instead of the untrained network")
    parser.add_argument("--scans", type=int, default=12)
    parser.add_argument("--times", type=int, default=10)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        home = Path(temporary)
        raw = chosen(Path(options.raw).resolve(), options.scans, home / "raw")
        slices = sum(1 for path in raw.rglob("*.tif") if SLICE_FILE.search(path.name))
        run = canonical(options.model or str(home / "run"))
        if not options.model:
            untrained(run, NETWORK)
        before = bare_rates(run)
        began = time.perf_counter()
        with open_session("bench") as spark:
            session_seconds = time.perf_counter() - began
            rates = [
                slicemill_score(spark, run, raw, home / f"ours{number}") for number in range(1 + WARM_RUNS)
            ]
            naive = slices / timed(partial(naive_udf, spark, run, raw, home / "naive"))
        bare = {name: max(rate, before[name]) for name, rate in bare_rates(run).items()}
        few, many = chosen(raw, 4, home / "few"), home / "many"
        linked(few, options.times, many)
        peaks = worker_peaks(run, few, many, home)
    ours, best = float(np.median(rates[1:])), max(bare.values())
    print(
        json.dumps(
            {
                "vs_bare_loop": ours / best,
                "vs_naive_udf": ours / naive,
                "worker_memory_growth": peaks[1] / peaks[0],
                "vs_bare_loop_with_start_of_workers": rates[0] / best,
                "slices_per_second": {
                    "slicemill": round(ours, 1),
                    "slicemill_with_start_of_workers": round(rates[0], 1),
                    **{f"bare_loop_{name}": round(rate, 1) for name, rate in bare.items()},
                    "naive_udf": round(naive, 1),
                },
                "session_start_seconds": round(session_seconds, 1),
                "worker_peak_mib": {"once": round(peaks[0]), f"{options.times}_times": round(peaks[1])},
                "slices": slices,
                "times": options.times,
                **describe(),
            }
        )
    )


if __name__ == "__main__":
    main()
