"""One epoch of training slices: read by Petastorm, shuffled anew, in equal numbers of steps on every rank.

Petastorm 0.13.1 reads with its dummy pool, in threads of ours: its thread pool ends an epoch early now and
then, and loses what is still under way. A reader lives for one epoch, because `reset()` gives wrong ones.
Nothing is trusted all the same: `EpochLoader.count` says what was read, for the loop to compare with the
lake.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import psutil

from slicemill.core.scans.channels import input_slices
from slicemill.core.training.plan import LabelledFile, Share, TrainPlan, draws
from slicemill.core.training.sampling import EVERY_SLICE
from slicemill.errors import SlicemillError, TrainingError
from slicemill.io.lake.petastorm_files import petastorm_files
from slicemill.model.loading.petastorm_seam import make_batch_reader
from slicemill.model.loading.read_ahead import read_ahead
from slicemill.types import SliceImage, SliceMask

#: Slices among which the next one is drawn; 256 pixel ones take a quarter of a megabyte each.
SHUFFLE_BUFFER = 512

#: Batches that wait for the network.
PREFETCH = 4

#: Threads that read: decompression leaves the interpreter to the other.
READERS = 2

#: Scans that wait in each of them; one of 88 slices takes 22 megabytes.
SCANS_AHEAD = 1

_COLUMNS = ("scan_id", "slice_index", "height", "width", "channels", "image", "mask", "mask_status")


@dataclass(frozen=True)
class LabelledSlice:
    """A slice with its mask; views of the bytes that were read."""

    scan_id: str
    slice_index: int
    image: SliceImage
    mask: SliceMask


@dataclass(frozen=True)
class Batch:
    """Slices of one step; weight 0 marks one that is only there to fill the step."""

    slices: tuple[LabelledSlice, ...]
    weights: npt.NDArray[np.float32]


@dataclass(frozen=True)
class EpochCount:
    """What one rank drew in one epoch, against what the lake says it should have; repeats counted."""

    read: int
    expected: int
    wrong_scans: int
    repeated: int

    @property
    def right(self) -> bool:
        """Whether each slice came exactly as often as it was due."""
        return self.read == self.expected and not self.wrong_scans and not self.repeated


def read_labelled(files: Sequence[LabelledFile]) -> Iterator[LabelledSlice]:
    """Slices with a usable mask in their file's layout, file by file in the order given, in slice order."""
    return itertools.chain.from_iterable(_read_scans(files))


def _read_scans(files: Sequence[LabelledFile]) -> Generator[list[LabelledSlice], None, None]:
    """The slices of one file after the other, read by some threads that take the files in turn."""
    with ExitStack() as readers:
        streams = [
            readers.enter_context(read_ahead(_read_in_turn(files[place::READERS]), SCANS_AHEAD))
            for place in range(min(READERS, len(files)))
        ]
        for turn in itertools.zip_longest(*streams):
            yield from (scan for scan in turn if scan is not None)


def _read_in_turn(files: Sequence[LabelledFile]) -> Generator[list[LabelledSlice], None, None]:
    planned = {file.scan_id: file for file in files}
    for sources in petastorm_files([file.uri for file in files]):
        reader = make_batch_reader(
            sources, _COLUMNS, reader_pool_type="dummy", shuffle_row_groups=False, num_epochs=1
        )
        try:
            # A row group is a whole scan. One that was not planned is counted as such.
            for group in reader:
                columns = group._asdict()
                yield list(_labelled_slices(columns, planned.get(str(columns["scan_id"][0]))))
        finally:
            # Not `with`: leaving that prints to standard output.
            reader.stop()
            reader.join()


def _labelled_slices(columns: Mapping[str, Any], file: LabelledFile | None) -> Iterator[LabelledSlice]:
    shapes = list(zip(*(map(int, columns[name]) for name in ("height", "width", "channels")), strict=True))
    stored = [
        np.frombuffer(pixels, dtype=np.uint8).reshape(shape)
        for pixels, shape in zip(columns["image"], shapes, strict=True)
    ]
    # Also of slices without a mask: they are their neighbours' neighbours.
    images = input_slices(stored, file.layout if file else "rgb")
    subset = file.slices if file else None
    for row, image in enumerate(images):
        counts = subset is None or int(columns["slice_index"][row]) in subset
        if counts and columns["mask_status"][row] == "present":
            yield LabelledSlice(
                scan_id=str(columns["scan_id"][row]),
                slice_index=int(columns["slice_index"][row]),
                image=image,
                mask=np.frombuffer(columns["mask"][row], dtype=np.uint8).reshape(shapes[row][:2]),
            )


def shuffled(
    slices: Iterable[LabelledSlice], buffer: int, draw: np.random.Generator
) -> Iterator[LabelledSlice]:
    """Each slice once, in an order drawn from a buffer of that many."""
    pool: list[LabelledSlice] = []
    for entry in slices:
        if len(pool) < buffer:
            pool.append(entry)
            continue
        place = int(draw.integers(buffer))
        pool[place], entry = entry, pool[place]
        yield entry
    yield from (pool[index] for index in draw.permutation(len(pool)))


def batches(slices: Iterable[LabelledSlice], batch_size: int, steps: int) -> Generator[Batch, None, None]:
    """Exactly `steps` full batches, the first slices coming again with weight 0 where there are too few.

    Slices beyond the last step are drawn and dropped: the caller counts them. Raises TrainingError without
    any.
    """
    first: list[LabelledSlice] = []
    filling: list[LabelledSlice] = []
    batch_count = 0
    for entry in slices:
        if len(first) < batch_size:
            first.append(entry)
        filling.append(entry)
        if len(filling) == batch_size:
            if batch_count < steps:
                yield Batch(tuple(filling), np.ones(batch_size, dtype=np.float32))
            batch_count += 1
            filling = []
    if not first:
        raise TrainingError(
            "a rank has no slices to train on", expected="at least one labelled slice", found="none"
        )
    for _ in range(batch_count, steps):
        fill = [first[index % len(first)] for index in range(batch_size - len(filling))]
        weights = np.array([1.0] * len(filling) + [0.0] * len(fill), dtype=np.float32)
        yield Batch((*filling, *fill), weights)
        filling = []


class SliceCache:
    """Decoded slices of whole scans, kept from their first reading on, as many as fit into `limit` bytes.

    One thread at a time reads through it.
    """

    def __init__(self, limit: int) -> None:
        self._left = limit
        self._kept: dict[LabelledFile, list[LabelledSlice]] = {}

    @classmethod
    def planned(cls, plan: TrainPlan) -> SliceCache:
        """The cache of a rank by the run's settings; in memory, the ranks share half of what is free."""
        if plan.settings.cache == "none":
            return cls(0)
        # On several machines each has room for more: less is kept than could be, never too much.
        return cls(psutil.virtual_memory().available // 2 // plan.ranks)

    @property
    def slices(self) -> int:
        """Slices that are kept."""
        return sum(map(len, self._kept.values()))

    def read(self, files: Sequence[LabelledFile]) -> Iterator[LabelledSlice]:
        """What `read_labelled` gives, from memory where it is kept."""
        fresh = _read_scans([file for file in files if file not in self._kept])
        try:
            for file in files:
                slices = self._kept.get(file)
                if slices is None:
                    slices = next(fresh, [])
                    self._keep(file, slices)
                yield from slices
            # Nothing is left, unless a file holds more than its scan; then the count will tell.
            yield from itertools.chain.from_iterable(fresh)
        finally:
            fresh.close()

    def _keep(self, file: LabelledFile, slices: list[LabelledSlice]) -> None:
        size = sum(entry.image.nbytes + entry.mask.nbytes for entry in slices)
        if size <= self._left:
            self._left -= size
            # Views would keep all that was read with them, as of slices that are not labelled.
            self._kept[file] = [
                replace(entry, image=entry.image.copy(), mask=entry.mask.copy()) for entry in slices
            ]


class EpochLoader:
    """Batches of one epoch on one rank, read ahead by a thread.

    The order depends on seed, epoch and rank alone, `cache` or not. Every epoch of every rank gives `steps`
    batches. After the last, `count` says what was drawn.
    """

    def __init__(
        self,
        share: Share,
        *,
        batch_size: int,
        steps: int,
        seed: int,
        epoch: int,
        rank: int,
        buffer: int = SHUFFLE_BUFFER,
        cache: SliceCache | None = None,
    ) -> None:
        self._share = share
        self._batch_size = batch_size
        self._steps = steps
        self._buffer = buffer
        self._draw = np.random.default_rng((seed, epoch, rank))
        self._cache = cache or SliceCache(0)
        self._seed, self._epoch = seed, epoch
        self._due: dict[tuple[str, int], int] = {}
        self._drawn: Counter[tuple[str, int]] = Counter()

    def __iter__(self) -> Iterator[Batch]:
        epoch = batches(self._slices(), self._batch_size, self._steps)
        with read_ahead(epoch, PREFETCH) as entries:
            try:
                yield from entries
            except SlicemillError:
                raise
            except Exception as error:
                raise TrainingError(
                    "the lake can't be read",
                    expected="the files that ingest wrote",
                    found=f"{type(error).__name__}: {error}",
                    advice="Run ingest again.",
                ) from error

    @property
    def count(self) -> EpochCount:
        """What has been drawn so far."""
        per_scan: Counter[str] = Counter()
        for (scan_id, _), times in self._drawn.items():
            per_scan[scan_id] += times
        expected = {file.scan_id: file.draws for file in self._share}
        wrong_scans = sum(
            per_scan[scan] != expected.get(scan, 0) for scan in per_scan.keys() | expected.keys()
        )
        repeated = sum(max(times - self._due[key], 0) for key, times in self._drawn.items())
        return EpochCount(self._drawn.total(), draws(self._share), wrong_scans, repeated)

    def _slices(self) -> Iterator[LabelledSlice]:
        files = [self._share[index] for index in self._draw.permutation(len(self._share))]
        return self._counted(shuffled(self._repeated(self._cache.read(files)), self._buffer, self._draw))

    def _repeated(self, slices: Iterable[LabelledSlice]) -> Iterator[LabelledSlice]:
        files = {file.scan_id: file for file in self._share}
        for scan_id, group in itertools.groupby(slices, key=lambda entry: entry.scan_id):
            scan = list(group)
            tumour = np.array([entry.mask.any() for entry in scan], dtype=bool)
            sampling = files[scan_id].sampling if scan_id in files else EVERY_SLICE
            times = sampling.times(tumour, scan_id, self._seed, self._epoch)
            for entry, due in zip(scan, times.tolist(), strict=True):
                self._due[entry.scan_id, entry.slice_index] = due
                yield from itertools.repeat(entry, due)

    def _counted(self, slices: Iterable[LabelledSlice]) -> Iterator[LabelledSlice]:
        for entry in slices:
            self._drawn[entry.scan_id, entry.slice_index] += 1
            yield entry
