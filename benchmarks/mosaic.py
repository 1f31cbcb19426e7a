"""Mosaic's streaming data set over the same slices, for `loader.py`. Needs `mosaicml-streaming`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from streaming import MDSWriter, StreamingDataLoader, StreamingDataset

from slicemill.core.training.plan import Share
from slicemill.io.storage.uri import local_path


def write_shards(files: Share, side: int, folder: Path) -> None:
    """All slices and masks as shards, uncompressed as is its default."""
    columns = {"image": f"ndarray:uint8:{side},{side},3", "mask": f"ndarray:uint8:{side},{side}"}
    with MDSWriter(out=str(folder), columns=columns) as writer:
        for file in files:
            for row in pq.read_table(local_path(file.uri), columns=["image", "mask"]).to_pylist():
                image = np.frombuffer(row["image"], np.uint8).reshape(side, side, 3)
                writer.write(
                    {"image": image, "mask": np.frombuffer(row["mask"], np.uint8).reshape(side, side)}
                )


def open_loader(folder: Path, batch: int) -> Any:
    """Its own loader, shuffled, with two workers that stay."""
    dataset = StreamingDataset(local=str(folder), shuffle=True, batch_size=batch)
    return StreamingDataLoader(dataset, batch_size=batch, num_workers=2, persistent_workers=True)


def epoch(loader: Any) -> int:
    """Slices of one epoch."""
    return sum(len(batch["image"]) for batch in loader)
