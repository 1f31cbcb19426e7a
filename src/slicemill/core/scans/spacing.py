"""How far a patient's slices, rows and columns lie apart: numbers, or columns of the clinical table."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TypeGuard

from slicemill.errors import ConfigError
from slicemill.types import Spacing

#: A distance in millimetres, or the column that says it.
Side = float | str


def spacing_by_patient(
    sides: Sequence[Side], columns: Collection[str], rows: Mapping[str, Mapping[str, object]]
) -> dict[str, Spacing]:
    """Spacing of the patients whose row has a distance above 0 for each side.

    `rows`: value by column, by patient. Raises ConfigError for a column that is not among `columns`.
    """
    for side in sides:
        if isinstance(side, str) and side not in columns:
            raise ConfigError(
                "--spacing names a column that the clinical table lacks",
                expected=f"a number, or one of {', '.join(sorted(columns)) or 'no columns'}",
                found=side,
            )
    by_patient = {}
    for patient, row in rows.items():
        z, y, x = (row.get(side) if isinstance(side, str) else side for side in sides)
        if _is_distance(z) and _is_distance(y) and _is_distance(x):
            by_patient[patient] = (float(z), float(y), float(x))
    return by_patient


def _is_distance(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and 0 < value < float("inf")
