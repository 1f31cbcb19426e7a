"""Dice and its companions on masks of a scan, defined once for training, scoring and reports.

A mask is 0/1 or boolean. Volumetric Dice is 2 |P and T| / (|P| + |T|) over all voxels of a scan; both empty
counts 1, one empty counts 0. The slice mean is the mean over slices of the same number, by the same rule for
empty ones: what fast.ai and MONAI print. The two differ, and each goes by its own name everywhere.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from slicemill.core.evaluation.surface import CUBES, hausdorff95
from slicemill.types import Spacing

Mask = npt.NDArray[np.uint8] | npt.NDArray[np.bool_]


@dataclass(frozen=True)
class ScanScores:
    """Agreement of a scan's predicted mask with its true one.

    dice and iou are volumetric; hd95 is in units of the spacing (`core.evaluation.surface`), None where a
    mask is empty; volumes are in voxels.
    """

    dice: float
    iou: float
    slice_mean_dice: float
    hd95: float | None
    predicted_volume: int
    true_volume: int


def dice_from_counts(intersection: int, predicted: int, true: int) -> float:
    """Dice from the voxels in both masks, in the predicted and in the true one.

    >>> dice_from_counts(intersection=16, predicted=20, true=20)
    0.8
    >>> dice_from_counts(0, 0, 0)
    1.0
    """
    return 2.0 * intersection / (predicted + true) if predicted + true else 1.0


def iou_from_counts(intersection: int, predicted: int, true: int) -> float:
    """Intersection over union from the same counts as `dice_from_counts`; both empty counts 1.

    >>> iou_from_counts(intersection=16, predicted=20, true=20)
    0.6666666666666666
    """
    union = predicted + true - intersection
    return intersection / union if union else 1.0


def slice_counts(predicted: Mask, true: Mask) -> npt.NDArray[np.int64]:
    """Voxels in both masks, in the predicted and in the true one, of each slice.

    Both masks have axes (S, H, W); returns int64 with axes (S, 3). Raises ValueError for unequal shapes.
    """
    if predicted.shape != true.shape or predicted.ndim != 3:
        raise ValueError(f"masks: expected two of axes (S, H, W), found {predicted.shape} and {true.shape}")
    ours, theirs = predicted.astype(bool), true.astype(bool)
    counts = [np.count_nonzero(mask, axis=(1, 2)) for mask in (ours & theirs, ours, theirs)]
    return np.array(counts, dtype=np.int64).T


def dice(predicted: Mask, true: Mask) -> float:
    """Volumetric Dice of two masks with axes (S, H, W)."""
    return dice_from_counts(*_totals(slice_counts(predicted, true)))


def slice_mean_dice(predicted: Mask, true: Mask) -> float:
    """Mean over slices of the slice's Dice; raise ValueError without any slice."""
    return _slice_mean(slice_counts(predicted, true))


def scan_scores(predicted: Mask, true: Mask, spacing: Spacing = CUBES) -> ScanScores:
    """All scores of one scan; both masks have axes (S, H, W) and at least one slice.

    `spacing`: distance of slices, rows and columns, which `hd95` is in units of.
    """
    counts = slice_counts(predicted, true)
    totals = _totals(counts)
    return ScanScores(
        dice=dice_from_counts(*totals),
        iou=iou_from_counts(*totals),
        slice_mean_dice=_slice_mean(counts),
        hd95=hausdorff95(predicted, true, spacing),
        predicted_volume=totals[1],
        true_volume=totals[2],
    )


def _totals(counts: npt.NDArray[np.int64]) -> tuple[int, int, int]:
    overlap, predicted, true = (int(count) for count in counts.sum(axis=0))
    return overlap, predicted, true


def _slice_mean(counts: npt.NDArray[np.int64]) -> float:
    if not len(counts):
        raise ValueError("slice mean: expected at least one slice, found none")
    return float(np.mean([dice_from_counts(*(int(count) for count in row)) for row in counts]))
