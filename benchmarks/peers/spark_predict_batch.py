"""Spark's own `predict_batch_udf` over decoded arrays, the masks written by a `mapInPandas` behind it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from network import BATCH, Network, command_line, write_masks
from pyspark.ml.functions import predict_batch_udf
from pyspark.sql.types import ArrayType, FloatType
from spark_udf import decoded, session, slice_files

SIZE = 256

if __name__ == "__main__":
    work = command_line()

    def make_predict() -> Callable[[np.ndarray], np.ndarray]:
        """Load the network once; give the function of a batch."""
        network = Network(work.run, work.engine, threads=1)
        return lambda images: network.probabilities(images).reshape(len(images), -1)

    def decode(batches: Iterator[pd.DataFrame]) -> Iterator[pd.DataFrame]:
        """Slices as flat arrays of floats."""
        for batch in batches:
            images = decoded(batch["content"])
            yield pd.DataFrame({"path": batch["path"], "image": list(images.reshape(len(images), -1))})

    def write(batches: Iterator[pd.DataFrame]) -> Iterator[pd.DataFrame]:
        """Masks as TIFF."""
        for batch in batches:
            probabilities = np.stack(batch["probability"].to_list()).reshape(-1, SIZE, SIZE)
            write_masks([Path(path) for path in batch["path"]], probabilities, 0.5, work.out)
            yield batch[["path"]]

    spark = session(BATCH)
    predict = predict_batch_udf(
        make_predict,
        return_type=ArrayType(FloatType()),
        batch_size=BATCH,
        input_tensor_shapes=[[3, SIZE, SIZE]],
    )
    images = slice_files(spark, work).mapInPandas(decode, "path string, image array<float>")
    predicted = images.select("path", predict("image").alias("probability"))
    predicted.mapInPandas(write, "path string").count()
    spark.stop()
