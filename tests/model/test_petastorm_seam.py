from __future__ import annotations

import ast
import inspect
import os
import pickle
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path
from types import ModuleType

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slicemill.errors import MachineError
from slicemill.model.loading.petastorm_seam import PETASTORM, check_version, make_batch_reader

#: What a training reads through.
MODULES = ("reader", "arrow_reader_worker", "unischema", "etl.dataset_metadata")


class Trap:
    """Makes a folder where it is unpickled."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self.folder),)


def _petastorm(name: str) -> ModuleType:
    return sys.modules[f"petastorm.{name}"]


def _calls(module: ModuleType) -> list[tuple[str, ast.Call]]:
    """Calls of pq's names in a module's source."""
    tree = ast.parse(inspect.getsource(module))
    return [
        (node.func.attr, node)
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and isinstance(node.func.value, ast.Name)
        and node.func.value.id == "pq"
    ]


def _read(*paths: Path, columns: tuple[str, ...] = ("name", "number")) -> list[dict[str, np.ndarray]]:
    reader = make_batch_reader(
        [partial(pa.OSFile, str(path)) for path in paths],
        columns,
        reader_pool_type="dummy",
        shuffle_row_groups=False,
        num_epochs=1,
    )
    try:
        return [group._asdict() for group in reader]
    finally:
        reader.stop()
        reader.join()


@settings(max_examples=30, deadline=None)
@given(st.lists(st.none() | st.binary(max_size=40), min_size=1, max_size=12))
def test_bytes_come_as_views_of_what_was_read(pixels: list[bytes | None]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "pixels.parquet")
        pq.write_table(pa.table({"pixels": pa.array(pixels, pa.binary())}), path)

        (group,) = _read(path, columns=("pixels",))

    views = group["pixels"]
    assert [None if view is None else view.tobytes() for view in views] == pixels
    present = [view for view in views if view is not None]
    assert all(view.dtype == np.uint8 and not view.flags.writeable for view in present)
    assert len({view.base.__array_interface__["data"][0] for view in present}) <= 1


@pytest.mark.parametrize("name", MODULES)
def test_every_name_of_pyarrow_and_numpy_that_petastorm_uses_exists(name: str) -> None:
    module = _petastorm(name)
    used = {
        (node.value.id, node.attr)
        for node in ast.walk(ast.parse(inspect.getsource(module)))
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id in ("np", "pa", "pq")
    }

    assert used
    assert [
        f"{alias}.{attr}" for alias, attr in sorted(used) if not hasattr(getattr(module, alias), attr)
    ] == []


def test_petastorm_calls_the_stand_ins_as_they_can_be_called() -> None:
    calls = [(_petastorm(name), *call) for name in MODULES for call in _calls(_petastorm(name))]

    assert {name for _, name, _ in calls} >= {"ParquetDataset", "ParquetDatasetPiece"}
    for module, name, call in calls:
        if name.startswith("ParquetDataset"):
            keywords = {keyword.arg: None for keyword in call.keywords}
            inspect.signature(getattr(module.pq, name)).bind(*call.args, **keywords)


def test_pyarrow_and_numpy_are_the_same_for_everybody_else() -> None:
    script = """
import sys, numpy, pyarrow, pyarrow.lib, pyarrow.parquet
before = [set(vars(module)) for module in (numpy, pyarrow, pyarrow.lib, pyarrow.parquet)]
import slicemill.model.loading.petastorm_seam
after = [set(vars(module)) for module in (numpy, pyarrow, pyarrow.lib, pyarrow.parquet)]
more = set().union(*(late - early for early, late in zip(before, after)))
old = {"unicode_", "string_", "filesystem", "hdfs", "localfs", "ArrowIOError", "ParquetDatasetPiece"}
assert not more & old
assert pyarrow.parquet.ParquetDataset.__module__ == "pyarrow.parquet.core"
assert not {"pyarrow.filesystem", "pyarrow.hdfs", "petastorm.hdfs.namenode"} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-W", "error::FutureWarning", "-c", script], check=True)


@pytest.mark.parametrize("installed", ["0.13.2", "0.12.1", None])
def test_another_petastorm_is_refused_in_one_line(installed: str | None) -> None:
    check_version(PETASTORM)

    with pytest.raises(
        MachineError, match=rf"expected petastorm {PETASTORM}; found .*\. Install petastorm=="
    ) as refusal:
        check_version(installed)

    assert "\n" not in str(refusal.value)


def test_every_row_group_comes_in_the_order_of_files_and_rows(tmp_path: Path) -> None:
    # Characters that mean something in a URL mean nothing in a file's name.
    paths = [tmp_path / "b.parquet", tmp_path / "a #1?%20;ä.parquet"]
    for offset, path in enumerate(paths):
        rows = {
            "name": [f"é{offset}-{at}" for at in range(5)],
            "number": [10 * offset + at for at in range(5)],
        }
        pq.write_table(pa.table({**rows, "left_out": [0] * 5}), path, row_group_size=2)

    groups = _read(*paths)

    assert [list(group["number"]) for group in groups] == [[0, 1], [2, 3], [4], [10, 11], [12, 13], [14]]
    assert [str(name) for name in groups[-1]["name"]] == ["é1-4"]
    assert set(groups[0]) == {"name", "number"}


def test_another_order_of_rows_is_refused() -> None:
    with pytest.raises(ValueError, match="rows come in their file's order"):
        make_batch_reader([], ("name",), shuffle_rows=True)


def test_a_pickled_schema_is_not_unpickled_wherever_it_lies(tmp_path: Path) -> None:
    trap = pickle.dumps(Trap(tmp_path / "sprung"))
    schema = pa.schema([("name", pa.string()), ("number", pa.int64())])
    planted = schema.with_metadata({b"dataset-toolkit.unischema.v1": trap})
    for name in ("_common_metadata", "_metadata"):
        pq.write_metadata(planted, tmp_path / name)
    pq.write_table(pa.table({"name": ["a"], "number": [1]}, schema=planted), tmp_path / "scan.parquet")

    groups = _read(tmp_path / "scan.parquet")

    assert [list(group["number"]) for group in groups] == [[1]]
    assert not (tmp_path / "sprung").exists()
    with pytest.raises(MachineError, match="pickled schema"):
        _petastorm("etl.dataset_metadata").depickle_legacy_package_name_compatible(trap)
    assert not (tmp_path / "sprung").exists()
