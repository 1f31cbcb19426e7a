"""From a decoded scan to its predicted masks and scores, with one predictor a process."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from slicemill.core.dice import dice_from_counts, scan_scores, slice_counts
from slicemill.core.normalise import from_histogram
from slicemill.core.scan import Scan
from slicemill.io.score_writer import ScoredScan
from slicemill.model.predictor import Predictor
from slicemill.types import ScanMasks


@dataclass(frozen=True)
class ScoreSettings:
    """How to score: which model, on what, from which probability on."""

    model: str
    device: str
    precision: str
    threads: int | None
    batch_size: int
    threshold: float


@cache
def loaded(model: str, device: str, precision: str, threads: int | None) -> Predictor:
    """The predictor of this process, loaded once."""
    return Predictor.load(model, device, precision, threads)


def scan_normalisation(scan: Scan) -> npt.NDArray[np.float32]:
    """Clip and z-score of a scan, float32 (C, 4), from the histogram of all its slices."""
    return from_histogram(np.sum([one.histogram for one in scan.slices], axis=0))


def score_scan(scan: Scan, settings: ScoreSettings) -> ScoredScan:
    """Predict every slice of a scan and compare it with the truth where there is one.

    Probabilities never leave this function: they are compared with the threshold a batch at a time.
    """
    if not scan.slices:
        return ScoredScan(
            scan, np.zeros((0, 0, 0), np.uint8), np.zeros(0, np.float32), (), _scores(scan, None, settings)
        )
    predictor = loaded(settings.model, settings.device, settings.precision, settings.threads)
    normalisation = scan_normalisation(scan)
    masks, peaks = [], []
    for start in range(0, len(scan.slices), settings.batch_size):
        images = np.stack([one.image for one in scan.slices[start : start + settings.batch_size]])
        probabilities = predictor.predict(images, np.repeat(normalisation[None], len(images), axis=0))
        masks.append((probabilities >= settings.threshold).view(np.uint8))
        peaks.append(probabilities.max(axis=(1, 2)))
    predicted = np.concatenate(masks)
    return ScoredScan(
        scan,
        predicted,
        np.concatenate(peaks),
        _slice_dice(scan, predicted),
        _scores(scan, predicted, settings),
    )


def _slice_dice(scan: Scan, predicted: ScanMasks) -> tuple[float | None, ...]:
    found: list[float | None] = []
    for one, mask in zip(scan.slices, predicted, strict=True):
        counts = None if one.mask is None else slice_counts(mask[None], one.mask[None])[0]
        found.append(None if counts is None else dice_from_counts(*(int(count) for count in counts)))
    return tuple(found)


def _scores(scan: Scan, predicted: ScanMasks | None, settings: ScoreSettings) -> Mapping[str, Any]:
    labelled = [position for position, one in enumerate(scan.slices) if one.mask is not None]
    row: dict[str, Any] = {
        "predicted_volume": 0 if predicted is None else int(np.count_nonzero(predicted)),
        "slices": len(scan.slices),
        "labelled_slices": len(labelled),
        "warnings": _warnings(scan),
        "options": [],
        "threshold": settings.threshold,
    }
    if predicted is not None and labelled:
        true = np.stack([one.mask for one in scan.slices if one.mask is not None])
        scores = scan_scores(predicted[labelled], true)
        row |= {
            "dice": scores.dice,
            "iou": scores.iou,
            "slice_mean_dice": scores.slice_mean_dice,
            "hd95": scores.hd95,
            "true_volume": scores.true_volume,
        }
    return row


def _warnings(scan: Scan) -> list[str]:
    found = []
    if not scan.slices:
        found.append("no usable slice")
    rejected = sum(one.mask_status == "rejected" for one in scan.slices)
    if rejected:
        found.append(f"{rejected} bad masks left out of the truth")
    if scan.problems:
        found.append(f"{len(scan.problems)} files set aside")
    return found
