"""Losses where a slice that only fills the step has no say."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional

from slicemill.errors import ConfigError
from slicemill.model.networks.external import external_function, load_function

#: Share of the batch's pixels that the Dice term adds above and below. It decides what false positives cost
#: where no slice has a tumour: predicting p of such pixels costs p / (p + share), so already a few are
#: felt.
DICE_SMOOTHING = 1e-3

#: Exponent of the focal term: how little a pixel counts that is right already.
FOCUS = 2.0

#: Logits, targets and weights of a batch to a float32 scalar.
Loss = Callable[[Tensor, Tensor, Tensor], Tensor]

#: The same with the weight of the Dice term, by keyword.
SegmentationLoss = Callable[..., Tensor]


def bce_dice(logits: Tensor, targets: Tensor, weights: Tensor, dice_weight: float = 1.0) -> Tensor:
    """Binary cross-entropy plus `dice_weight` times soft Dice over the batch.

    `logits`, `targets`: axes (N, 1, H, W), targets 0 to 1. `weights`: axes (N), 1 counts, 0 does not. The
    cross-entropy is averaged over all N slices, so that the ranks' mean weighs each slice alike even where
    some fill the step. Returns a float32 scalar.
    """
    return _pixelwise(logits, targets, weights, focus=0.0) + dice_weight * _soft_dice(
        logits, targets, weights
    )


def dice_focal(logits: Tensor, targets: Tensor, weights: Tensor, dice_weight: float = 1.0) -> Tensor:
    """Focal cross-entropy (Lin 2017) plus soft Dice over the batch; arguments as in `bce_dice`."""
    return _pixelwise(logits, targets, weights, focus=FOCUS) + dice_weight * _soft_dice(
        logits, targets, weights
    )


def cross_entropy(logits: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """Binary cross-entropy of slices; `logits`, `targets` with axes (N, 1), `weights` as in `bce_dice`."""
    return _pixelwise(logits, targets, weights, focus=0.0)


#: What segmentation can minimise, by its name.
SEGMENTATION: dict[str, SegmentationLoss] = {"bce-dice": bce_dice, "dice-focal": dice_focal}


def segmentation_loss(name: str, dice_weight: float) -> Loss:
    """A loss by its name with this weight of its Dice, or another package's by package.module:function.

    Raises ConfigError if there is none.
    """
    if name in SEGMENTATION:
        return partial(SEGMENTATION[name], dice_weight=dice_weight)
    place = external_function(name, "loss")
    if place is None:
        raise ConfigError(
            "--loss is not a loss of this release",
            expected=f"{', '.join(SEGMENTATION)} or package.module:function",
            found=name,
        )
    loss: Loss = load_function(*place)
    return loss


def _shares(weights: Tensor, like: Tensor) -> Tensor:
    return weights.reshape(-1, *(1 for _ in like.shape[1:]))


def _pixelwise(logits: Tensor, targets: Tensor, weights: Tensor, focus: float) -> Tensor:
    logits, targets = logits.float(), targets.float()
    entropy = functional.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    if focus:
        # 1 - exp(-entropy) is how wrong a hard target's pixel is, without a second sigmoid.
        entropy = entropy * (1 - torch.exp(-entropy)) ** focus
    return (entropy * _shares(weights, entropy)).mean()


def _soft_dice(logits: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    shares = _shares(weights, logits)
    probabilities, targets = torch.sigmoid(logits.float()) * shares, targets.float() * shares
    smoothing = DICE_SMOOTHING * targets.numel()
    overlap = 2 * (probabilities * targets).sum() + smoothing
    return 1 - overlap / (probabilities.sum() + targets.sum() + smoothing)
