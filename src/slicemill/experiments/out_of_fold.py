"""What a cross-validation leaves beside its JSON: the page, and the worst scans as a table."""

from __future__ import annotations

import csv
import dataclasses
import io
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from slicemill.core.evaluation.rows import ScanScore
from slicemill.core.results.out_of_fold import OutOfFold, WorstScan, out_of_fold
from slicemill.io import storage
from slicemill.io.places import Crossval
from slicemill.io.spreadsheet import text_cell
from slicemill.io.storage.uri import display
from slicemill.pages.out_of_fold import as_html
from slicemill.types import Uri


def write_out_of_fold(
    out: Uri,
    split: str,
    folds: Mapping[int, Sequence[ScanScore]],
    institutions: Mapping[str, str | None],
) -> OutOfFold:
    """Write page and table into a cross-validation's folder, and return what they say.

    `folds`: rows of the patients table by fold; `institutions` by scan id.
    """
    result = out_of_fold(folds, institutions)
    places = Crossval(out)
    rows = [row for _, of_fold in sorted(folds.items()) for row in of_fold]
    storage.write_bytes(places.worst, worst_csv(result.worst))
    page = as_html(result, rows, split, display(places.worst), datetime.now(UTC))
    storage.write_bytes(places.page, page)
    return result


def worst_csv(worst: Sequence[WorstScan]) -> bytes:
    """The worst scans as CSV, UTF-8; a column a field, warnings as one cell."""
    sink = io.StringIO()
    names = [field.name for field in dataclasses.fields(WorstScan)]
    writer = csv.writer(sink, lineterminator="\n")
    writer.writerow(names)
    for scan in worst:
        cells = vars(scan) | {"warnings": "; ".join(scan.warnings)}
        writer.writerow([_cell(cells[name]) for name in names])
    return sink.getvalue().encode()


def _cell(value: object) -> object:
    if isinstance(value, float):
        return f"{value:.6g}"
    return text_cell(value) if isinstance(value, str) else value
