"""The training loader against what it is made of, and against what one would use instead.

    python benchmarks/loader.py --raw FOLDER [--lake FOLDER]

All sides read the same labelled slices in one run, warm from the page cache, in batches of 16:

- slicemill: `EpochLoader`, from Parquet by Petastorm, shuffled, counted.
- in memory: the same with `--cache ram`, from the second epoch on.
- plain pyarrow: each row group read and its columns given to numpy, file by file; no batches, no shuffling.
- bare reader: Petastorm's `make_batch_reader` over the same columns, bytes left as they are, no batches, no
  shuffling; the faster of its dummy pool and of two threads.
- Petastorm's loader: its `BatchedDataLoader`, arrays made in a TransformSpec.
- TIFF: torch's `DataLoader` over the raw files with Pillow, shuffled, with two workers that stay.
- Mosaic streaming, where it is installed: its data set over uncompressed shards of the same slices, shuffled,
  with two workers that stay.

Without `--lake` the raw folder is ingested first. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import importlib.util
import itertools
import json
import re
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch
from machine import describe
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from slicemill.config import IngestConfig
from slicemill.core.training.plan import LabelledFile, Share, draws
from slicemill.io.lake.petastorm_files import petastorm_files
from slicemill.io.lake.reader import read_scans
from slicemill.io.storage.uri import canonical, join, local_path
from slicemill.model.loading.loader import EpochLoader, SliceCache
from slicemill.model.loading.petastorm_seam import make_batch_reader
from slicemill.pipelines import ingest
from slicemill.spark.session import open_session

BATCH = 16

SLICE_FILE = re.compile(r"_\d+\.tif$")

#: What every reader reads.
COLUMNS = ("scan_id", "slice_index", "height", "width", "channels", "image", "mask", "mask_status")


class TiffSlices(Dataset[tuple[torch.Tensor, torch.Tensor]]):
    """Slices and masks as they lie in the raw folder."""

    def __init__(self, raw: Path) -> None:
        self._paths = sorted(path for path in raw.rglob("*.tif") if SLICE_FILE.search(path.name))

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, at: int) -> tuple[torch.Tensor, torch.Tensor]:
        path = self._paths[at]
        image = np.array(Image.open(path))
        mask = np.array(Image.open(path.with_name(path.stem + "_mask.tif"))) > 0
        return torch.from_numpy(image), torch.from_numpy(mask)


def open_reader(files: Share, pool: str, columns: Iterable[str] = COLUMNS, **options: Any) -> Any:
    """Petastorm's reader over the files."""
    sources = [source for some in petastorm_files([file.uri for file in files]) for source in some]
    return make_batch_reader(
        sources, tuple(columns), reader_pool_type=pool, workers_count=2, num_epochs=1, **options
    )


def bare(files: Share, pool: str) -> int:
    """Read all row groups, and count their rows."""
    reader = open_reader(files, pool)
    slices = sum(len(group.scan_id) for group in reader)
    reader.stop()
    reader.join()
    return slices


def plain_pyarrow(files: Share) -> int:
    """Slices of one file after the other, read by pyarrow alone."""
    slices = 0
    for file in files:
        with pq.ParquetFile(local_path(file.uri)) as source:
            for group in range(source.num_row_groups):
                table = source.read_row_group(group, columns=list(COLUMNS))
                columns = {name: table.column(name).to_numpy() for name in COLUMNS}
                slices += len(columns["image"])
    return slices


def petastorm_loader(files: Share, side: int) -> int:
    """Slices that Petastorm's own loader gives as batches of tensors."""
    # Only importable after our own module has imported Petastorm.
    from petastorm.pytorch import BatchedDataLoader
    from petastorm.transform import TransformSpec

    def arrays(frame: Any) -> Any:
        frame["image"] = [np.frombuffer(data, np.uint8).reshape(side, side, 3) for data in frame["image"]]
        frame["mask"] = [np.frombuffer(data, np.uint8).reshape(side, side) for data in frame["mask"]]
        return frame

    spec = TransformSpec(
        arrays,
        edit_fields=[
            ("image", np.uint8, (side, side, 3), False),
            ("mask", np.uint8, (side, side), False),
        ],
    )
    # Its loader takes no text: the scan's id stays away.
    columns = [name for name in COLUMNS if name not in ("scan_id", "mask_status")]
    reader = open_reader(files, "thread", columns, transform_spec=spec)
    loader = BatchedDataLoader(reader, batch_size=BATCH, shuffling_queue_capacity=512)
    with loader:
        return sum(len(batch["image"]) for batch in loader)


def slicemill_loader(files: Share, epochs: Iterator[int], cache: SliceCache) -> int:
    """Slices of one epoch."""
    steps = -(-draws(files) // BATCH)
    loader = EpochLoader(
        files, batch_size=BATCH, steps=steps, seed=0, epoch=next(epochs), rank=0, cache=cache
    )
    slices = sum(int(batch.weights.sum()) for batch in loader)
    if not loader.count.right:
        raise SystemExit(f"slices missing or too many: {loader.count}")
    return slices


def tiff_loader(raw: Path) -> DataLoader[tuple[torch.Tensor, torch.Tensor]]:
    """torch's loader over the raw files; its workers live as long as it."""
    return DataLoader(TiffSlices(raw), batch_size=BATCH, shuffle=True, num_workers=2, persistent_workers=True)


def tiff_epoch(loader: DataLoader[tuple[torch.Tensor, torch.Tensor]]) -> int:
    """Slices of one epoch."""
    return sum(len(images) for images, _ in loader)


def rate(side: Callable[[], int]) -> float:
    """Slices a second."""
    start = time.perf_counter()
    return side() / (time.perf_counter() - start)


def labelled_files(lake: str) -> tuple[Share, int]:
    """The lake's files, and the rows and columns of their slices."""
    rows = [row for row in read_scans(lake) if row.labelled_slices]
    sides = {side for row in rows for side in (row.height, row.width)}
    if len(sides) != 1 or any(row.labelled_slices != row.slices for row in rows):
        raise SystemExit("the other sides want square slices of one size, all with masks")
    files = (LabelledFile(row.scan_id, join(lake, row.data_uri), row.labelled_slices) for row in rows)
    return tuple(files), sides.pop()


def mosaic_epochs(files: Share, side: int, home: Path) -> dict[str, Callable[[], int]]:
    """Mosaic's side, or none where it is not installed."""
    if importlib.util.find_spec("streaming") is None:
        return {}
    import mosaic

    mosaic.write_shards(files, side, home / "shards")
    loader = mosaic.open_loader(home / "shards", BATCH)
    return {"mosaic_streaming": lambda: mosaic.epoch(loader)}


def measured(raw: Path, lake: str, rounds: int, home: Path) -> dict[str, Any]:
    """All sides in turn, `rounds` times after one that does not count; the median counts."""
    files, side = labelled_files(lake)
    epochs, kept, tiff = itertools.count(), SliceCache(2**62), tiff_loader(raw)
    sides: dict[str, Callable[[], int]] = {
        "slicemill": lambda: slicemill_loader(files, epochs, SliceCache(0)),
        "in_memory": lambda: slicemill_loader(files, epochs, kept),
        "plain_pyarrow": lambda: plain_pyarrow(files),
        "bare_dummy_pool": lambda: bare(files, "dummy"),
        "bare_two_threads": lambda: bare(files, "thread"),
        "petastorm_batched_loader": lambda: petastorm_loader(files, side),
        "torch_dataloader_tiff": lambda: tiff_epoch(tiff),
        **mosaic_epochs(files, side, home),
    }
    rates: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(rounds + 1):
        for name, run in sides.items():
            rates[name].append(rate(run))
    middle = {name: float(np.median(per_round[1:])) for name, per_round in rates.items()}
    ours = middle["slicemill"]
    return {
        "vs": {name: ours / rate for name, rate in middle.items() if name != "slicemill"},
        "vs_bare_reader": ours / max(middle["bare_dummy_pool"], middle["bare_two_threads"]),
        "slices_per_second": {name: round(rate, 1) for name, rate in middle.items()},
        "slices": draws(files),
        "rounds": rounds,
    }


def main() -> None:
    """Run all sides and print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--raw", required=True)
    parser.add_argument("--lake")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    raw = Path(options.raw).resolve()
    with tempfile.TemporaryDirectory() as temporary:
        lake = options.lake or f"{temporary}/lake"
        if not options.lake:
            with open_session("bench") as spark:
                ingest.run(IngestConfig(raw=(str(raw),), lake=lake), spark)
        result = measured(raw, canonical(lake), options.rounds, Path(temporary))
    print(json.dumps({**result, **describe()}))


if __name__ == "__main__":
    main()
