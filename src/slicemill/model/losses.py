"""Losses for masks with soft targets, where a slice that only fills the step has no say."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

#: Share of the batch's pixels that the Dice term adds above and below. It decides what false positives cost
#: where no slice has a tumour: predicting p of such pixels costs p / (p + share), so already a few are
#: felt.
DICE_SMOOTHING = 1e-3


def segmentation_loss(logits: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """Binary cross-entropy plus soft Dice over the batch.

    `logits`, `targets`: axes (N, 1, H, W), targets 0 to 1. `weights`: axes (N), 1 counts, 0 does not. The
    cross-entropy is averaged over all N slices, so that the ranks' mean weighs each slice alike even where
    some fill the step. Returns a float32 scalar.
    """
    logits, targets = logits.float(), targets.float()
    share = weights[:, None, None, None]
    entropy = (functional.binary_cross_entropy_with_logits(logits, targets, reduction="none") * share).mean()
    return entropy + _soft_dice_loss(torch.sigmoid(logits) * share, targets * share)


def _soft_dice_loss(probabilities: Tensor, targets: Tensor) -> Tensor:
    smoothing = DICE_SMOOTHING * targets.numel()
    overlap = 2 * (probabilities * targets).sum() + smoothing
    return 1 - overlap / (probabilities.sum() + targets.sum() + smoothing)
