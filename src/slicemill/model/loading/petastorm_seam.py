"""Petastorm 0.13.1 on today's pyarrow and numpy: the one place that imports it.

Petastorm was written for pyarrow's old Parquet data sets (removed in 15) and for names that numpy 2 removed.
What it looks for is put into Petastorm's own modules; pyarrow and numpy stay as they are for everybody else:

| Petastorm's module                   | what it looks for                    | what it gets            |
| ------------------------------------ | ------------------------------------ | ----------------------- |
| `utils`                              | `pyarrow.filesystem.LocalFileSystem` | a class nobody uses     |
| `fs_utils`                           | `pyarrow.hdfs` and `distutils`,      | no HDFS                 |
|                                      | through `petastorm.hdfs.namenode`    |                         |
| `reader`, `etl.dataset_metadata`,    | `pq.ParquetDataset`,                 | `_Dataset`,             |
| `arrow_reader_worker`                | `pq.ParquetDatasetPiece`             | `_Piece`                |
| `unischema`, `arrow_reader_worker`   | `np.unicode_`, `np.string_`          | `np.str_`, `np.bytes_`  |
| `etl.dataset_metadata`               | its unpickler of stored schemas      | a refusal               |

A `_Dataset` is a list of files that are named one by one. It has no `_common_metadata`, where Petastorm looks
for a pickled schema: none comes in.

Importing this module raises MachineError under another version of Petastorm: what that one calls has not been
compared with this table.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from types import ModuleType
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from slicemill.errors import MachineError

#: The only version whose calls are known.
PETASTORM = "0.13.1"


class ParquetFiles:
    """The file system that Petastorm is given: some Parquet files, each opened once.

    A file is for one thread at a time.

    `sources` has, by the name that Petastorm calls a file, what opens it for random access.
    """

    def __init__(self, sources: Mapping[str, Callable[[], pa.NativeFile]]) -> None:
        self._sources = sources
        self._opened: dict[str, pq.ParquetFile] = {}

    def open(self, path: str) -> pq.ParquetFile:
        """The file with its footer. Raises OSError or pyarrow's ArrowInvalid for one that is not Parquet."""
        if path not in self._opened:
            self._opened[path] = pq.ParquetFile(self._sources[path]())
        return self._opened[path]


class _Views:
    """A column of bytes, for Petastorm to make objects of: views of what was read, None where it is null.

    pyarrow's own objects are copies of every pixel.
    """

    num_chunks = 1

    def __init__(self, column: pa.Array) -> None:
        self.type = column.type
        self.chunks = (self,)
        self._column = column

    def to_pandas(self) -> npt.NDArray[np.object_]:
        """Of each row the bytes: uint8, read only, one axis."""
        column = self._column
        views = np.empty(len(column), dtype=object)
        _, offsets, data = column.buffers()
        ends = np.frombuffer(offsets, np.int32)[column.offset : column.offset + len(column) + 1].tolist()
        stored = np.frombuffer(data or b"", np.uint8)
        stored.flags.writeable = False
        nulls = column.is_null().to_numpy(zero_copy_only=False)
        for row, (start, stop) in enumerate(itertools.pairwise(ends)):
            views[row] = None if nulls[row] else stored[start:stop]
        return views


class _RowGroup:
    """A table as it was read, whatever order is asked for: the seam leaves no way to ask for another.

    Petastorm takes the rows of each table by 0, 1, 2, ..., which copies every pixel.
    """

    def __init__(self, table: pa.Table) -> None:
        self._table = table

    def take(self, rows: npt.NDArray[np.int64]) -> _RowGroup:
        return self

    def __len__(self) -> int:
        return int(self._table.num_rows)

    def column(self, name: str | int) -> pa.ChunkedArray | _Views:
        column = self._table.column(name)
        one_piece = pa.types.is_binary(column.type) and column.num_chunks == 1
        return _Views(column.chunk(0)) if one_piece else column

    def __getattr__(self, name: str) -> Any:
        return getattr(self._table, name)


class _Piece:
    """A row group of a file, or the whole file as long as none was chosen."""

    def __init__(
        self,
        path: str,
        open_file_func: Callable[[str], pq.ParquetFile],
        row_group: int | None = None,
        partition_keys: Sequence[Any] = (),
    ) -> None:
        self.path = path
        self.row_group = row_group
        self.partition_keys = partition_keys
        self._open = open_file_func

    def get_metadata(self) -> pq.FileMetaData:
        return self._open(self.path).metadata

    def read(self, columns: Collection[str], partitions: None) -> _RowGroup:
        return _RowGroup(self._open(self.path).read_row_group(self.row_group, columns=sorted(columns)))


class _Dataset:
    """Files in the order in which they are named, without partitions and without metadata beside them."""

    metadata = None
    common_metadata = None
    metadata_path = None
    partitions = None

    def __init__(
        self,
        path_or_paths: Sequence[str],
        filesystem: ParquetFiles,
        validate_schema: bool = False,
        metadata_nthreads: int = 1,
        filters: None = None,
    ) -> None:
        self.paths = path_or_paths
        self.fs = filesystem
        self.pieces = [_Piece(path, filesystem.open) for path in path_or_paths]


class _Extended(ModuleType):
    """A module with some names more, or other ones; everything else is the module's."""

    def __init__(self, module: ModuleType, **names: Any) -> None:
        super().__init__(module.__name__)
        self.__dict__.update(names)
        self._module = module

    def __getattr__(self, name: str) -> Any:
        return getattr(self._module, name)


def _refuse_pickled_schema(pickled: bytes) -> NoReturn:
    raise MachineError(
        "Petastorm met a pickled schema",
        expected="plain Parquet",
        found="metadata that Petastorm would unpickle",
        advice="Report this: slicemill gives it none.",
    )


def _open_parquet(file: pq.ParquetFile) -> pq.ParquetFile:
    """In place of `ParquetFile`: what `ParquetFiles.open` gives is one."""
    return file


def check_version(installed: str | None) -> None:
    """Raise MachineError unless this version of Petastorm is the one that this module was written for."""
    if installed != PETASTORM:
        raise MachineError(
            "training reads through Petastorm, and this version was never tried",
            expected=f"petastorm {PETASTORM}",
            found=f"petastorm {installed}" if installed else "no petastorm",
            advice=f"Install petastorm=={PETASTORM}.",
        )


def _installed() -> str | None:
    try:
        return version("petastorm")
    except PackageNotFoundError:
        return None


@contextmanager
def _modules_for_the_import() -> Iterator[None]:
    """Modules that Petastorm imports and nobody has any more; afterwards nobody else finds them either."""
    stand_ins: dict[str, dict[str, object]] = {
        "pyarrow.filesystem": {"LocalFileSystem": type("LocalFileSystem", (), {})},
        "petastorm.hdfs.namenode": {"HdfsNamenodeResolver": None, "HdfsConnector": None},
    }
    for name, names in stand_ins.items():
        module = ModuleType(name)
        module.__dict__.update(names)
        sys.modules[name] = module
    try:
        yield
    finally:
        for name in stand_ins:
            del sys.modules[name]


def _import_petastorm() -> Callable[..., Any]:
    check_version(_installed())
    with _modules_for_the_import():
        from petastorm import arrow_reader_worker, reader, unischema
        from petastorm.etl import dataset_metadata
    for module in (reader, arrow_reader_worker, dataset_metadata):
        module.pq = _Extended(pq, ParquetDataset=_Dataset, ParquetDatasetPiece=_Piece)
    for module in (arrow_reader_worker, unischema):
        module.np = _Extended(np, unicode_=np.str_, string_=np.bytes_)
    arrow_reader_worker.ParquetFile = _open_parquet
    dataset_metadata.depickle_legacy_package_name_compatible = _refuse_pickled_schema
    make: Callable[..., Any] = reader.make_batch_reader
    return make


_make_batch_reader = _import_petastorm()


def make_batch_reader(
    sources: Sequence[Callable[[], pa.NativeFile]], columns: Sequence[str], **options: Any
) -> Any:
    """Petastorm's reader over Parquet files, in order; each is opened by its source.

    `options` are those of `petastorm.make_batch_reader`. Rows come in their file's order. Raises what a
    source raises, pyarrow's ArrowInvalid for a file that is not Parquet, and ValueError for `shuffle_rows`.
    """
    if options.get("shuffle_rows"):
        raise ValueError("make_batch_reader: rows come in their file's order, found shuffle_rows")
    # Petastorm parses URLs: a name of ours has no character that it could take for syntax.
    names = [f"/{index}" for index in range(len(sources))]
    return _make_batch_reader(
        [f"file://{name}" for name in names],
        schema_fields=[f"^{name}$" for name in columns],
        filesystem=ParquetFiles(dict(zip(names, sources, strict=True))),
        **options,
    )
