"""The house counted: the counts are right, and nothing gets worse than it is."""

from __future__ import annotations

import ast
import json
import runpy
from pathlib import Path

import pytest

HOUSE = runpy.run_path(str(Path(__file__).parents[2] / "scripts" / "house.py"))


@pytest.fixture(scope="module")
def counted():
    return HOUSE["house"]()


def test_string_subscripts_are_counted_and_annotations_are_not():
    tree = ast.parse('a["x"]; b["y"]["z"] = c[0]; d: Literal["e"] = f[name]')
    assert HOUSE["string_subscripts"](tree) == 3


def test_local_names_are_what_functions_and_loops_bind():
    tree = ast.parse("def f(self, found, *, _one=0):\n    total = found\n    for row in total: pass\n")
    assert sorted(HOUSE["local_names"](tree)) == ["found", "one", "row", "total"]


def test_imports_of_a_notebook_are_its_rooms(tmp_path):
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "a.py").write_text("def f(x): return x\n")
    (tmp_path / "notebooks").mkdir()
    cell = {
        "cell_type": "code",
        "source": ["import slicemill\n", "from slicemill.io import storage\n", "import re\n"],
    }
    (tmp_path / "notebooks" / "n.ipynb").write_text(json.dumps({"cells": [cell]}))
    assert HOUSE["house"](tmp_path).imports_per_notebook == {"n.ipynb": 2}


def test_notebooks_come_in_by_the_front_door(counted):
    assert max(counted.imports_per_notebook.values()) <= 2


def test_no_folder_is_an_attic(counted):
    assert counted.largest_folder[1] <= 15


def test_rows_have_types(counted):
    assert counted.string_subscripts_per_1000_lines < 10


def test_names_are_nouns(counted):
    assert counted.weak_name_share < 0.003


def test_each_class_has_a_name_of_its_own(counted):
    assert counted.shared_class_names == ()
