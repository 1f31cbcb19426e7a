from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slicemill.io.spreadsheet import text_cell


@pytest.mark.parametrize("name", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1"])
def test_a_name_is_never_a_formula(name: str) -> None:
    assert text_cell(name) == f"'{name}"


@given(st.text())
def test_a_cell_shows_its_name_whole(name: str) -> None:
    assert text_cell(name).removeprefix("'") == name.removeprefix("'") or text_cell(name) == name
    assert not text_cell(name).startswith(("=", "+", "-", "@", "\t", "\r"))


def test_plain_names_stay() -> None:
    assert text_cell("TCGA_CS_4941_19960909") == "TCGA_CS_4941_19960909"
