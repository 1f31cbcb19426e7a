"""Write what was predicted for one scan: a mask file and a row of a table for each slice."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from slicemill.core.scans.scan import Slice
from slicemill.errors import InputError
from slicemill.io import storage
from slicemill.io.picture import png_mask
from slicemill.io.places import Predictions
from slicemill.io.raw.tiff_write import encode_mask
from slicemill.io.scores.extras import Extras
from slicemill.io.scores.results import PredictedScan, PredictedSlice
from slicemill.io.scores.writer import ScanOutput
from slicemill.io.spreadsheet import text_cell
from slicemill.types import SliceMask

#: What writes a mask file of each type.
ENCODERS: Mapping[str, Callable[[SliceMask], bytes]] = {"tif": encode_mask, "png": png_mask}


@dataclass(frozen=True)
class SliceRow:
    """A row of slices.csv; areas in pixels, None where the model gives no mask or the slice has none."""

    name: str
    slice_index: int
    tumour_pixels: int | None
    max_probability: float
    true_pixels: int | None
    dice: float | None


def slice_names(slices: Sequence[Slice]) -> list[str]:
    """What each slice's outputs are named after: its file, and in an array its number too.

    Raises InputError if two slices have the same name.
    """
    stems = [source.source_uri.rpartition("/")[2].rpartition(".")[0] for source in slices]
    arrays = [source.source_uri.lower().endswith(".npy") for source in slices]
    names = [
        f"{stem}_{source.slice_index}" if array else stem
        for stem, array, source in zip(stems, arrays, slices, strict=True)
    ]
    name, count = Counter(names).most_common(1)[0]
    if count > 1:
        raise InputError(
            "masks are named after their slices' files, and two files have one name",
            expected="files with names of their own",
            found=name,
            advice="Rename one of them, or predict them one after the other.",
        )
    return names


def table_rows(output: ScanOutput, names: Sequence[str]) -> list[SliceRow]:
    """The rows of slices.csv, in slice order."""
    return [
        SliceRow(name, row.slice_index, row.tumour_pixels, row.max_probability, row.true_pixels, row.dice)
        for name, row in zip(names, output.slices, strict=True)
    ]


def write_predictions(
    places: Predictions, output: ScanOutput, rows: Sequence[SliceRow], kind: str, extras: Extras
) -> int:
    """Write a mask file per slice, the extras and the table; return the number of mask files.

    A classifier gives the table alone.
    """
    encode = ENCODERS[kind]
    masks = [] if output.masks is None else list(zip(rows, output.masks, strict=True))
    storage.each(
        lambda pair: storage.write_bytes(places.mask(pair[0].name, kind), encode(pair[1])),
        masks,
        places.home,
    )
    if output.masks is not None:
        for name, data in extras.files(output.scan, output.masks, output.levels, output.score.model_id):
            storage.write_bytes(places.extra(name), data)
    storage.write_bytes(places.table, _csv(rows))
    return len(masks)


def _csv(rows: Sequence[SliceRow]) -> bytes:
    sink = io.StringIO()
    writer = csv.DictWriter(sink, list(SliceRow.__dataclass_fields__), lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({**vars(row), "name": text_cell(row.name)})
    return sink.getvalue().encode()


def predicted_scan(output: ScanOutput) -> PredictedScan:
    """The scan and its predicted slices, as figures take them."""
    masks = output.masks if output.masks is not None else [None] * len(output.slices)
    slices = {
        row.slice_index: PredictedSlice(mask, row.tumour_pixels, row.dice, row.max_probability)
        for row, mask in zip(output.slices, masks, strict=True)
    }
    return PredictedScan(output.scan, slices)
