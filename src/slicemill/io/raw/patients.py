"""The list of patients: a table that says whose scan each folder is."""

from __future__ import annotations

from slicemill.core.stored_names import MOST_BYTES, fits
from slicemill.errors import InputError
from slicemill.io.raw.clinical import PATIENT_NAMES
from slicemill.io.raw.delimited import read_table
from slicemill.io.storage.uri import display
from slicemill.types import Uri

_SCAN_NAMES = ("scan", "scanid", "folder", "study", "studyid", "session", "sessionid")


def read_patients(uri: Uri) -> dict[str, str]:
    """Patient by scan id, from a table with the columns `scan` and `patient`.

    Raises InputError if a column is missing, a cell is empty, or a scan has two patients.
    """
    table = read_table(uri, PATIENT_NAMES)
    scan, patient = table.column(_SCAN_NAMES), table.column(PATIENT_NAMES)
    if scan is None or patient is None:
        raise InputError(
            f"the list of patients {display(uri)} lacks a column",
            expected="a header with scan and patient",
            found=", ".join(table.names),
        )
    patients: dict[str, str] = {}
    for number, row in enumerate(table.rows, start=2):
        if not fits(row[scan]) or not fits(row[patient]):
            raise InputError(
                f"row {number} of {display(uri)} lacks an id, or has one that is too long",
                expected=f"a scan and a patient, each of at most {MOST_BYTES} bytes",
                found=f"{row[scan]!r}, {row[patient]!r}",
            )
        if patients.setdefault(row[scan], row[patient]) != row[patient]:
            raise InputError(
                f"the list of patients {display(uri)} gives a scan two patients",
                expected="one patient a scan",
                found=f"{row[scan]}: {patients[row[scan]]} and {row[patient]}",
            )
    return patients
