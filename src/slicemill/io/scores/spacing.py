"""The spacing of the scans to score, from numbers or from columns of a clinical table."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence

from slicemill.core.scans.spacing import Side, spacing_by_patient
from slicemill.io.lake.reader import read_clinical_columns
from slicemill.io.raw.clinical import Clinical, read_clinical
from slicemill.io.storage.uri import canonical
from slicemill.types import Spacing, Uri

log = logging.getLogger(__name__)

#: Patients that a message names.
_NAMED = 5


def scan_spacing(
    sides: Sequence[Side] | None, patients: Collection[str], clinical: str | None, lake: Uri | None = None
) -> dict[str, Spacing]:
    """Spacing by patient, without those for whom it is not known; a line in the log says how many these are.

    `clinical` is the table that columns are taken from, as a user names it; without it they are the lake's.
    Raises ConfigError for a column that the table lacks.
    """
    if sides is None:
        return {}
    rows: Mapping[str, Mapping[str, object]] = {patient: {} for patient in patients}
    columns: Collection[str] = ()
    if any(isinstance(side, str) for side in sides):
        table = _table(clinical, lake)
        columns, rows = [field.name for field in table.fields], table.by_patient(patients)
    spacing = spacing_by_patient(sides, columns, rows)
    if unknown := sorted(set(patients) - spacing.keys()):
        names = ", ".join(unknown[:_NAMED])
        log.warning("%d patients have no distance in the clinical table: %s", len(unknown), names)
    return spacing


def _table(clinical: str | None, lake: Uri | None) -> Clinical:
    if clinical is None and lake is not None:
        return read_clinical_columns(lake)
    return read_clinical(canonical(clinical or ""), ())
