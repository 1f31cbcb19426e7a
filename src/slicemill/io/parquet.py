"""Tables of `slicemill.schemas` as Arrow and Parquet, written whole and read with their version checked."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from slicemill.errors import InputError, LakeVersionError
from slicemill.io import storage
from slicemill.io.storage.uri import display, join
from slicemill.schemas import SCHEMA_VERSION, Column, Kind, Table
from slicemill.types import Uri

_ARROW: dict[Kind, pa.DataType] = {
    "string": pa.string(),
    "int32": pa.int32(),
    "int64": pa.int64(),
    "float32": pa.float32(),
    "float64": pa.float64(),
    "bool": pa.bool_(),
    "binary": pa.binary(),
    "timestamp": pa.timestamp("us", tz="UTC"),
    "date": pa.date32(),
}
_TABLE_KEY = b"slicemill.table"
_VERSION_KEY = b"slicemill.schema_version"

#: Bytes that one Arrow array of binary values can address.
_MOST_BYTES = 2**31 - 1

#: Rows of a small table that are turned into Arrow at a time: a lake of 10,000 scans needs no more than one
#: of a thousand.
GROUP_ROWS = 1000

#: Name of the one file of a small table.
ONE_FILE = "part-0.parquet"

Row = Mapping[str, Any]


def arrow_field(column: Column) -> pa.Field:
    """One column as an Arrow field, with its meaning and unit as metadata."""
    kind = _ARROW[column.kind]
    meaning = {"meaning": column.meaning, "unit": column.unit}
    return pa.field(column.name, pa.list_(kind) if column.repeated else kind, column.nullable, meaning)


def arrow_schema(table: Table, extra: Sequence[pa.Field] = ()) -> pa.Schema:
    """A table as an Arrow schema that names the table and its version; `extra` columns come last."""
    fields = [*(arrow_field(column) for column in table.columns), *extra]
    return pa.schema(fields, {_TABLE_KEY: table.name, _VERSION_KEY: str(SCHEMA_VERSION)})


def to_arrow(
    table: Table,
    rows: Iterable[Row],
    extra: Sequence[pa.Field] = (),
    columns: Mapping[str, pa.Array] | None = None,
) -> pa.Table:
    """Rows as an Arrow table; `schema_version` is filled in, a missing key is null.

    `columns` replaces whole columns, by name.
    """
    complete = [{"schema_version": SCHEMA_VERSION, **row} for row in rows]
    schema, ready = arrow_schema(table, extra), columns or {}
    arrays = [
        ready[field.name]
        if field.name in ready
        else _column([row.get(field.name) for row in complete], field.type)
        for field in schema
    ]
    return pa.Table.from_arrays(arrays, schema=schema)


def _column(values: Sequence[Any], kind: pa.DataType) -> pa.Array:
    """Values of a column; number by number, Arrow takes a hundred times as long for lists in numpy arrays."""
    if not values or not all(isinstance(value, np.ndarray) for value in values):
        return pa.array(values, kind)
    ends = np.cumsum([0, *map(len, values)])
    numbers = np.concatenate(values).astype(kind.value_type.to_pandas_dtype(), copy=False)
    return pa.ListArray.from_arrays(pa.array(ends, pa.int32()), pa.array(numbers, kind.value_type), kind)


def pixel_column(planes: Sequence[npt.NDArray[np.uint8] | None]) -> pa.Array:
    """Pixels of each row, in C order, as one binary column, copied once; None is null."""
    sizes = [0 if plane is None else plane.nbytes for plane in planes]
    if sum(sizes) > _MOST_BYTES:
        return pa.array([None if plane is None else plane.tobytes() for plane in planes], pa.binary())
    present = [plane.reshape(-1) for plane in planes if plane is not None]
    pixels = np.concatenate(present) if present else np.empty(0, np.uint8)
    offsets = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int32)
    valid = np.packbits([plane is not None for plane in planes], bitorder="little")
    buffers = [pa.py_buffer(part) for part in (valid, offsets, pixels)]
    return pa.Array.from_buffers(pa.binary(), len(planes), buffers)


def parquet_bytes(data: pa.Table) -> bytes:
    """A Parquet file with one row group."""
    return _parquet_bytes(data.schema, [data])


def _parquet_bytes(schema: pa.Schema, groups: Iterable[pa.Table]) -> bytes:
    """A Parquet file with a row group for each table."""
    sink = io.BytesIO()
    # Looking for repeated or extreme values among pixels costs as much as compressing them, and finds none.
    plain = [field.name for field in schema if not pa.types.is_binary(field.type)]
    with pq.ParquetWriter(
        sink,
        schema,
        compression="zstd",
        compression_level=1,
        use_dictionary=plain,
        write_statistics=plain,
    ) as writer:
        for group in groups:
            writer.write_table(group, row_group_size=max(1, group.num_rows))
    return sink.getvalue()


def write_rows(uri: Uri, table: Table, rows: Iterable[Row], extra: Sequence[pa.Field] = ()) -> None:
    """Write rows as one Parquet file with one row group."""
    storage.write_bytes(uri, parquet_bytes(to_arrow(table, rows, extra)))


def write_small(
    folder: Uri,
    table: Table,
    rows: Iterable[Row],
    extra: Sequence[pa.Field] = (),
    write: Callable[[Uri, bytes], None] = storage.write_bytes,
) -> None:
    """Write a small table as the one file of its folder; `write` may be that of a fence."""
    groups = (to_arrow(table, group, extra) for group in _groups(rows))
    write(join(folder, ONE_FILE), _parquet_bytes(arrow_schema(table, extra), groups))


def _groups(rows: Iterable[Row]) -> Iterator[list[Row]]:
    remaining = iter(rows)
    while group := list(islice(remaining, GROUP_ROWS)):
        yield group


def read_file(uri: Uri, table: Table, columns: Sequence[str] | None = None) -> pa.Table:
    """Read one Parquet file of `table`.

    Raises InputError if it can't be read, LakeVersionError if it is of another table or version.
    """
    return _open(uri, table).read(columns=list(columns) if columns else None)


def _open(uri: Uri, table: Table) -> pq.ParquetFile:
    data = storage.read_bytes(uri)
    try:
        file = pq.ParquetFile(io.BytesIO(data))
    except (pa.ArrowException, OSError) as error:
        raise InputError(
            f"{display(uri)} can't be read", expected="a Parquet file", found=str(error)
        ) from error
    _check(uri, table, file.schema_arrow.metadata or {})
    return file


def _check(uri: Uri, table: Table, metadata: Mapping[bytes, bytes]) -> None:
    name = metadata.get(_TABLE_KEY, b"").decode()
    version = metadata.get(_VERSION_KEY, b"").decode()
    if (name, version) != (table.name, str(SCHEMA_VERSION)):
        raise LakeVersionError(
            f"{display(uri)} is not of this schema",
            expected=f"table {table.name}, schema version {SCHEMA_VERSION}",
            found=f"table {name or 'unknown'}, schema version {version or 'none'}",
            advice="Write it again with this release, or read it with the release that wrote it.",
        )


def read_small(folder: Uri, table: Table, columns: Sequence[str] | None = None) -> pa.Table:
    """Read a small table by its folder; raise InputError if it is not there."""
    return read_file(join(folder, ONE_FILE), table, columns)


def read_small_or_empty(folder: Uri, table: Table, columns: Sequence[str] | None = None) -> pa.Table:
    """Read a small table by its folder; no rows where there is none."""
    if not storage.exists(join(folder, ONE_FILE)):
        return arrow_schema(table).empty_table()
    return read_small(folder, table, columns)


def read_small_groups(folder: Uri, table: Table) -> Iterator[pa.RecordBatch]:
    """Read a small table by its folder, `GROUP_ROWS` rows at a time; nothing where there is none."""
    if storage.exists(join(folder, ONE_FILE)):
        yield from _open(join(folder, ONE_FILE), table).iter_batches(GROUP_ROWS)
