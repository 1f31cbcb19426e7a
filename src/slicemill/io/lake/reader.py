"""Read a lake: is it one, its scans, and one scan's slices as the `Scan` that a raw folder would give."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from slicemill.core.scans.integrity import Problem
from slicemill.core.scans.scan import Scan, Slice
from slicemill.errors import InputError
from slicemill.io.lake.card import require_lake
from slicemill.io.lake.rows import ScanRow, from_columns
from slicemill.io.parquet import read_file, read_small
from slicemill.io.places import Lake
from slicemill.io.raw.clinical import Clinical, carried_over
from slicemill.io.raw.tiff import count_values
from slicemill.io.storage.uri import display, join
from slicemill.schemas import SCANS, SLICES
from slicemill.types import Uri


def read_scans(home: Uri) -> list[ScanRow]:
    """Rows of the scans table, without clinical columns.

    Raises InputError if there is no lake or it holds no scan.
    """
    require_lake(home)
    rows = read_small(Lake(home).scans, SCANS, SCANS.names).to_pylist()
    if not rows:
        raise InputError(
            f"the lake {display(home)} has no scans",
            expected="at least one scan",
            found="none",
            advice="Look at its quarantine, then run slicemill ingest again.",
        )
    return [from_columns(ScanRow, row) for row in rows]


def read_clinical_columns(home: Uri) -> Clinical:
    """The clinical columns of a lake's scans table, by patient. Raises InputError if there is no lake."""
    require_lake(home)
    return carried_over(read_small(Lake(home).scans, SCANS), SCANS.names)


def read_lake_scan(home: Uri, row: ScanRow) -> Scan:
    """One scan of the lake by its row of the scans table."""
    table = read_file(join(home, row.data_uri), SLICES)
    problems: tuple[Problem, ...] = ()
    return Scan(row.scan_id, row.patient_id, tuple(_slice(stored) for stored in table.to_pylist()), problems)


def _slice(stored: Mapping[str, Any]) -> Slice:
    height, width, channels = stored["height"], stored["width"], stored["channels"]
    mask = stored["mask"]
    image = np.frombuffer(stored["image"], np.uint8).reshape(height, width, channels)
    return Slice(
        slice_index=stored["slice_index"],
        image=image,
        histogram=count_values(image),
        mask=None if mask is None else np.frombuffer(mask, np.uint8).reshape(height, width),
        mask_status=stored["mask_status"],
        source_uri=stored["source_uri"],
        conversion=stored["conversion"],
    )
