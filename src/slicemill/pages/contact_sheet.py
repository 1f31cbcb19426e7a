"""All slices of a scored scan on one picture."""

from __future__ import annotations

from slicemill.core.evaluation.rows import ScanScore
from slicemill.core.scans.scan import Slice
from slicemill.io.picture import Thumbnail, contact_sheet
from slicemill.io.scores.results import PredictedScan, PredictedSlice
from slicemill.pages.figures.overlay import display, first_channel, white_level
from slicemill.types import SliceMask


def sheet(scored: PredictedScan, row: ScanScore) -> bytes:
    """A WebP file of a scan's slices in order, over FLAIR with the borders of truth and prediction.

    Slices that are averaged down have borders of the pixels that are at least half in a mask.
    """
    channel, white = first_channel(scored.scan), white_level(scored.scan)
    dice = "no Dice" if row.dice is None else f"Dice {row.dice:.3f}"
    tiles = [
        _tile(entry, scored.predicted.get(entry.slice_index), channel, white) for entry in scored.scan.slices
    ]
    return contact_sheet(tiles, f"{row.scan_id}, {dice}, {len(tiles)} slices")


def _tile(entry: Slice, predicted: PredictedSlice | None, channel: int, white: float) -> Thumbnail:
    words = [str(entry.slice_index)]
    if predicted is not None and predicted.area is None:
        words.append(f"probability {predicted.probability:.2f}")
    elif predicted is not None and predicted.dice is not None and (predicted.area or predicted.dice < 1):
        words.append(f"Dice {predicted.dice:.2f}")
    return Thumbnail(
        display(entry.image[..., channel], white),
        _shown(predicted.mask if predicted else None),
        _shown(entry.mask),
        ", ".join(words),
    )


def _shown(mask: SliceMask | None) -> SliceMask | None:
    """A mask at the size that its slice is shown in."""
    return None if mask is None else (display(mask * 255, 255.0) >= 128).view("uint8")
