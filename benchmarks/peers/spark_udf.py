"""Spark reads the files; a pandas UDF over an iterator loads the network once a worker and predicts."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from network import BATCH, Network, Work, command_line, write_masks
from PIL import Image
from pyspark.sql import DataFrame, SparkSession


def slice_files(spark: SparkSession, work: Work) -> DataFrame:
    """Path and bytes of each slice."""
    return (
        spark.read.format("binaryFile")
        .option("recursiveFileLookup", "true")
        .option("pathGlobFilter", "*[0-9].tif")
        .load(str(work.raw))
        .select("path", "content")
        .repartition(spark.sparkContext.defaultParallelism)
    )


def decoded(contents: Any) -> np.ndarray:
    """Slices, float32 (slices, channels, rows, columns), each normalised by itself."""
    images = np.stack([np.asarray(Image.open(io.BytesIO(data))) for data in contents]).astype(np.float32)
    images -= images.mean((1, 2), keepdims=True)
    images /= images.std((1, 2), keepdims=True) + 1
    return images.transpose(0, 3, 1, 2)


def session(rows: int) -> SparkSession:
    """Spark on this machine's cores, with so many rows an Arrow batch."""
    cores = len(os.sched_getaffinity(0))
    return (
        SparkSession.builder.master(f"local[{cores}]")
        .config("spark.ui.enabled", "false")
        .config("spark.sql.execution.arrow.maxRecordsPerBatch", str(rows))
        .getOrCreate()
    )


if __name__ == "__main__":
    work = command_line()

    def predict(batches: Iterator[pd.DataFrame]) -> Iterator[pd.DataFrame]:
        """Masks of a worker's slices."""
        network = Network(work.run, work.engine, threads=1)
        for batch in batches:
            probabilities = network.probabilities(decoded(batch["content"]))
            paths = [Path(path) for path in batch["path"]]
            write_masks(paths, probabilities, network.threshold, work.out)
            yield batch[["path"]]

    spark = session(BATCH)
    slice_files(spark, work).mapInPandas(predict, "path string").count()
    spark.stop()
