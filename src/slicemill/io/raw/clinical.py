"""The clinical table: a CSV with any delimiter, typed, blanks as null, a row a patient."""

from __future__ import annotations

import csv
import io
from collections.abc import Collection
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from slicemill.errors import InputError
from slicemill.io import storage
from slicemill.io.storage.uri import display
from slicemill.types import Uri

#: Names that the patient column may have, in lower case.
_PATIENT_NAMES = ("patient", "patient_id", "patientid", "case", "case_id", "subject", "subject_id")


@dataclass(frozen=True)
class Clinical:
    """Clinical columns by patient; `patient_column` holds the ids."""

    table: pa.Table
    patient_column: str

    def columns_for(self, taken: Collection[str]) -> list[pa.Field]:
        """The columns to join, renamed `clinical_<name>` where a table already has the name."""
        low = {name.lower() for name in taken}
        fields = [field for field in self.table.schema if field.name != self.patient_column]
        return [pa.field(_free(field.name, low), field.type, nullable=True) for field in fields]

    def rows_for(self, taken: Collection[str]) -> dict[str, dict[str, object]]:
        """Values by patient id, under the names of `columns_for`."""
        names = [field.name for field in self.columns_for(taken)]
        rest = self.table.drop_columns([self.patient_column]).rename_columns(names)
        patients = self.table.column(self.patient_column).to_pylist()
        return dict(zip(patients, rest.to_pylist(), strict=True))


def _free(name: str, taken: Collection[str]) -> str:
    return f"clinical_{name}" if name.lower() in taken else name


def read_clinical(uri: Uri) -> Clinical:
    """Read a clinical CSV: UTF-8 with or without BOM, any of `,;|` or tab, LF or CRLF.

    Columns become whole numbers, real numbers or text. Raises InputError if there is no patient column, or
    a patient has two rows.
    """
    data = storage.read_bytes(uri).removeprefix(b"\xef\xbb\xbf")
    try:
        text = data.decode("utf-8")
        dialect = csv.Sniffer().sniff(text.partition("\n")[0], delimiters=",;|\t")
        table = pa.csv.read_csv(
            io.BytesIO(data),
            parse_options=pa.csv.ParseOptions(delimiter=dialect.delimiter),
            convert_options=pa.csv.ConvertOptions(
                strings_can_be_null=True, null_values=["", "NA", "NaN", "null"]
            ),
        )
    except (UnicodeDecodeError, csv.Error, pa.ArrowException) as error:
        raise InputError(
            f"the clinical table {display(uri)} can't be read",
            expected="a CSV file in UTF-8",
            found=str(error),
        ) from error
    column = next((name for name in table.column_names if name.strip().lower() in _PATIENT_NAMES), None)
    if column is None:
        raise InputError(
            f"the clinical table {display(uri)} has no patient column",
            expected="one of " + ", ".join(_PATIENT_NAMES),
            found=", ".join(table.column_names),
            advice="Rename the column that holds the patient ids.",
        )
    table = table.filter(pc.is_valid(table.column(column)))
    table = table.set_column(table.column_names.index(column), column, table.column(column).cast(pa.string()))
    repeated = [row["values"] for row in table.column(column).value_counts().to_pylist() if row["counts"] > 1]
    if repeated:
        raise InputError(
            f"the clinical table {display(uri)} repeats patients",
            expected="one row a patient",
            found=", ".join(sorted(repeated)[:5]),
        )
    return Clinical(table, column)
