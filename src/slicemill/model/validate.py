"""Volumetric Dice of validation scans at source resolution, each rank its own share of them."""

from __future__ import annotations

import itertools

import numpy as np
import torch
from torch import nn

from slicemill.core.dice import dice_from_counts
from slicemill.core.plan import LabelledFile, TrainPlan
from slicemill.errors import TrainingError
from slicemill.model.loader import LabelledSlice, read_labelled
from slicemill.model.predictor import probabilities
from slicemill.model.ranks import Rank, summed


def validation_dice(network: nn.Module, plan: TrainPlan, rank: Rank, precision: str) -> dict[str, float]:
    """Dice of each validation scan; the same on every rank.

    Raises TrainingError if not every labelled slice came exactly once.
    """
    scans = sorted(file for share in plan.validation for file in share)
    counts = {file.scan_id: np.zeros(4, dtype=np.int64) for file in scans}
    network.eval()
    for file in plan.validation[rank.index]:
        counts[file.scan_id] = _scan_counts(network, file, plan, rank.device, precision)
    network.train()
    flat = summed([float(count) for file in scans for count in counts[file.scan_id]], rank)
    totals = {
        file.scan_id: [int(count) for count in flat[4 * at : 4 * at + 4]] for at, file in enumerate(scans)
    }
    for file in scans:
        if totals[file.scan_id][3] != file.labelled_slices:
            raise TrainingError(
                f"validation scan {file.scan_id} came up wrong",
                expected=f"{file.labelled_slices} labelled slices",
                found=totals[file.scan_id][3],
            )
    return {scan: dice_from_counts(*found[:3]) for scan, found in totals.items()}


def _scan_counts(
    network: nn.Module, file: LabelledFile, plan: TrainPlan, device: torch.device, precision: str
) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Voxels in both masks, in the predicted, in the true one; slices."""
    counts = np.zeros(4, dtype=np.int64)
    normalisation = np.asarray(plan.normalisation[file.scan_id], dtype=np.float32)
    slices = read_labelled([file])
    while batch := list(itertools.islice(slices, int(plan.settings["batch_size"]))):
        for same_size in _by_shape(batch):
            images = np.stack([entry.image for entry in same_size])
            true = np.stack([entry.mask for entry in same_size]).astype(bool)
            scales = np.repeat(normalisation[None], len(same_size), axis=0)
            found = probabilities(
                network, images, scales, int(plan.settings["image_size"]), device, precision
            )
            predicted = found >= plan.settings["threshold"]
            counts += [np.count_nonzero(predicted & true), predicted.sum(), true.sum(), len(same_size)]
    return counts


def _by_shape(batch: list[LabelledSlice]) -> list[list[LabelledSlice]]:
    shapes = sorted({entry.image.shape for entry in batch})
    return [[entry for entry in batch if entry.image.shape == shape] for shape in shapes]
