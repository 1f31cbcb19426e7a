"""The list of patients, and holdout lists: texts that people write."""

from __future__ import annotations

from pathlib import Path

import pytest

from slicemill.errors import InputError
from slicemill.io.raw.patients import read_patients
from slicemill.io.storage.uri import canonical


def read(tmp_path: Path, text: str, encoding: str = "utf-8") -> dict[str, str]:
    path = tmp_path / "patients.csv"
    path.write_bytes(text.encode(encoding))
    return read_patients(canonical(str(path)))


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_a_list_gives_each_scan_its_patient(tmp_path: Path, encoding: str) -> None:
    text = "Patient ID;Scan\n0042;a\n0042;b\n7;c\n"
    assert read(tmp_path, text, encoding) == {"a": "0042", "b": "0042", "c": "7"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("scan,age\na,1\n", "lacks a column; expected a header with scan and patient"),
        ("scan,patient\na,\n", "row 2 of .* lacks an id"),
        ("scan,patient\na,P1\na,P2\n", "gives a scan two patients; .*found a: P1 and P2"),
        (f"scan,patient\na,{'P' * 201}\n", "or has one that is too long"),
    ],
)
def test_a_list_that_leaves_doubt_is_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read(tmp_path, text)
