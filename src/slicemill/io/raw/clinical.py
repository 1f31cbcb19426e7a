"""The clinical table: a CSV with any delimiter, typed, blanks as null, a row a patient."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa

from slicemill.core.scans.patients import patient_key
from slicemill.errors import InputError
from slicemill.io.raw.delimited import TextTable, read_table
from slicemill.io.storage.uri import display
from slicemill.types import Uri

#: Names that the patient column may have, as `delimited.plain_name` gives them.
PATIENT_NAMES = (
    *("patient", "patientid", "case", "caseid", "subject", "subjectid", "participantid"),
    *("bcrpatientbarcode", "casesubmitterid", "submitterid"),
)

_NULLS = frozenset(("", "na", "n/a", "nan", "null"))
# A number with leading zeros, or with more digits than a machine keeps, is a code, and stays text.
_WHOLE = re.compile(r"-?(0|[1-9]\d{0,17})")
_REAL = re.compile(r"-?((0|[1-9]\d{0,14})(\.\d*)?|\.\d+)([eE][+-]?\d{1,2})?")

Values = Mapping[str, object]
_Column = tuple[pa.DataType, list[object]]


@dataclass(frozen=True)
class Clinical:
    """Clinical columns as Arrow fields, and their values by patient id."""

    fields: tuple[pa.Field, ...]
    rows: Mapping[str, Values]

    def by_patient(self, patients: Collection[str]) -> dict[str, Values]:
        """Values of each of these patients that has a row.

        Ids are equal as they stand, or else but for letter case, hyphens and blanks, if that leaves one
        patient and one row.
        """
        matches = self._matches(patients)
        return {patient: self.rows[row] for patient, row in matches.items()}

    def without(self, patients: Collection[str]) -> Clinical:
        """The same columns without the rows that these patients have."""
        matches = set(self._matches(patients).values())
        return Clinical(self.fields, {row: values for row, values in self.rows.items() if row not in matches})

    def unjoined(self, patients: Collection[str]) -> list[str]:
        """Ids of rows that none of these patients has, sorted."""
        return sorted(self.rows.keys() - set(self._matches(patients).values()))

    def _matches(self, patients: Collection[str]) -> dict[str, str]:
        exact = {patient: patient for patient in patients if patient in self.rows}
        rows = _sole_by_key(self.rows.keys() - exact.keys())
        by_key = _sole_by_key(set(patients) - exact.keys())
        return exact | {patient: rows[key] for key, patient in by_key.items() if key in rows}


def _sole_by_key(ids: Iterable[str]) -> dict[str, str]:
    """Ids by their key, without those that share one."""
    pairs = [(patient_key(text), text) for text in ids]
    counts = Counter(key for key, _ in pairs)
    return {key: text for key, text in pairs if counts[key] == 1}


def read_clinical(uri: Uri, reserved: Sequence[str]) -> Clinical:
    """Read a clinical table; see `delimited.read_table` for what it may look like.

    Patient ids stay text. Other columns become whole numbers, real numbers or text; one whose name is in
    `reserved` becomes `clinical_<name>`, and of several of one name later ones get a number. Raises
    InputError if there is no patient column, or a patient has two rows.
    """
    table = read_table(uri, PATIENT_NAMES)
    place = table.column(PATIENT_NAMES)
    if place is None:
        raise InputError(
            f"the clinical table {display(uri)} has no patient column",
            expected="one of " + ", ".join(PATIENT_NAMES),
            found=", ".join(table.names),
            advice="Rename the column that holds the patient ids.",
        )
    ids = [row[place] for row in table.rows]
    repeated = sorted(patient for patient, count in Counter(ids).items() if patient and count > 1)
    if repeated:
        raise InputError(
            f"the clinical table {display(uri)} repeats patients",
            expected="one row a patient",
            found=", ".join(repeated[:5]),
        )
    columns = _columns(table, place, reserved)
    rows = {
        patient: {name: values[number] for name, (_, values) in columns.items()}
        for number, patient in enumerate(ids)
        if patient
    }
    return Clinical(tuple(pa.field(name, kind) for name, (kind, _) in columns.items()), rows)


def carried_over(scans: pa.Table, own: Sequence[str]) -> Clinical:
    """The clinical columns of a scans table: all that are not among its `own`."""
    fields = tuple(field for field in scans.schema if field.name not in own)
    names = [field.name for field in fields]
    rows = {
        row.pop("patient_id"): row
        for row in scans.select(["patient_id", *names]).to_pylist()
        if any(row[name] is not None for name in names)
    }
    return Clinical(fields, rows)


def _columns(table: TextTable, patient: int, reserved: Sequence[str]) -> dict[str, _Column]:
    columns: dict[str, _Column] = {}
    names = {name.lower() for name in reserved}
    for place, name in enumerate(table.names):
        if place == patient:
            continue
        free = _free(name or f"column_{place + 1}", names)
        names.add(free.lower())
        columns[free] = _typed([row[place] for row in table.rows])
    return columns


def _free(name: str, names: Collection[str]) -> str:
    """A name that Spark, to which letter case is nothing, can tell from those that are used."""
    candidates = [name, f"clinical_{name}", *(f"clinical_{name}_{number}" for number in range(2, 1000))]
    return next(candidate for candidate in candidates if candidate.lower() not in names)


def _typed(cells: Sequence[str]) -> _Column:
    values = [None if cell.lower() in _NULLS else cell for cell in cells]
    present = [value for value in values if value is not None]
    if present and all(_WHOLE.fullmatch(value) for value in present):
        return pa.int64(), [None if value is None else int(value) for value in values]
    if present and all(_REAL.fullmatch(value) for value in present):
        return pa.float64(), [None if value is None else float(value) for value in values]
    return pa.string(), list(values)
