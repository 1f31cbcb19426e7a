"""The clinical table as people send it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from slicemill.errors import InputError
from slicemill.io.raw.clinical import Clinical, carried_over, read_clinical
from slicemill.io.storage.uri import canonical


@pytest.fixture
def read(tmp_path: Path) -> Any:
    def of(content: str | bytes, *taken: str) -> Clinical:
        path = tmp_path / "data.csv"
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return read_clinical(canonical(str(path)), taken)

    return of


def values(clinical: Clinical, *patients: str) -> dict[str, dict[str, object]]:
    return {patient: dict(row) for patient, row in clinical.by_patient(patients).items()}


def test_ids_are_text_whatever_they_look_like(read: Any) -> None:
    clinical = read("patient,age\n0042,51\n12345678901234567890,52\n1e5,53\nNA,54\n")
    assert {patient: row["age"] for patient, row in clinical.rows.items()} == {
        "0042": 51,
        "12345678901234567890": 52,
        "1e5": 53,
        "NA": 54,
    }


def test_codes_in_other_columns_keep_their_digits(read: Any) -> None:
    clinical = read("patient,site,accession,age,grade\nA,007,12345678901234567890,51,1.5\nB,12,1,,2\n")
    assert clinical.rows["A"] == {
        "site": "007",
        "accession": "12345678901234567890",
        "age": 51,
        "grade": 1.5,
    }
    assert [field.type for field in clinical.fields] == [pa.string(), pa.string(), pa.int64(), pa.float64()]
    assert clinical.rows["B"]["age"] is None


@pytest.mark.parametrize("patient", [" P-001 ", "p_001", "P 001", "P_001"])
def test_blanks_hyphens_and_letter_case_do_not_keep_a_row_from_its_patient(read: Any, patient: str) -> None:
    assert values(read(f"patient,age\n{patient},51\n"), "P_001", "P_002") == {"P_001": {"age": 51}}


def test_an_exact_id_goes_first_and_a_doubtful_one_joins_nobody(read: Any) -> None:
    clinical = read("patient,age\nP-1,51\nP_1,52\nQ-1,53\nQ 1,54\n")
    assert values(clinical, "P_1", "Q_1") == {"P_1": {"age": 52}}
    assert clinical.unjoined(["P_1", "Q_1"]) == ["P-1", "Q 1", "Q-1"]


def test_equal_names_lose_no_column(read: Any) -> None:
    (row,) = read("Patient,age,Age,slices,,age\nA,1,2,3,4,5\n", "slices").rows.values()
    assert row == {
        "age": 1,
        "clinical_Age": 2,
        "clinical_slices": 3,
        "column_5": 4,
        "clinical_age_2": 5,
    }


@pytest.mark.parametrize(
    "header", ["Patient;age, years;gender", "age, years;gender;Patient", '"Patient";"age, years";gender']
)
def test_a_comma_inside_a_name_does_not_hide_the_delimiter(read: Any, header: str) -> None:
    row = "A;51;2" if header.strip('"').startswith("Patient") else "51;2;A"
    assert read(f"{header}\n{row}\n").rows == {"A": {"age, years": 51, "gender": 2}}


@pytest.mark.parametrize("delimiter", [",", ";", "|", "\t"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_usual_delimiters_and_encodings_are_read(read: Any, delimiter: str, encoding: str) -> None:
    text = delimiter.join(["Case ID", "Größe"]) + "\r\n" + delimiter.join(["Zoé", "3"]) + "\r\n"
    assert read(text.encode(encoding)).rows == {"Zoé": {"Größe": 3}}


def test_a_cell_may_hold_the_delimiter_a_quote_and_a_new_line(read: Any) -> None:
    assert read('patient,note\nA,"one, ""two""\nthree"\n').rows == {"A": {"note": 'one, "two"\nthree'}}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("name,age\nA,1\n", "has no patient column"),
        ("patient,age\nA,1\nA,2\n", "repeats patients; .*found A"),
        ("patient,age\nA,1,2\n", "row 2 of .* is longer than the header"),
        ("", "is empty"),
        ("patient,Größe\nA,1\n".encode("latin-1"), "is not a text file that can be read"),
        ("patient,age\nA,1\n".encode("utf-16-le"), "is not a text file that can be read"),
    ],
)
def test_what_can_not_be_read_is_one_clear_line(read: Any, content: str | bytes, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read(content)


def test_columns_are_carried_over_from_the_last_table() -> None:
    table = pa.table({"patient_id": ["A", "A", "B"], "slices": [1, 2, 3], "age": [51, 51, None]})
    clinical = carried_over(table, ("patient_id", "slices"))
    assert (clinical.rows, [field.name for field in clinical.fields]) == ({"A": {"age": 51}}, ["age"])
