"""How sure a model is: counts by probability, the Dice that it expects, and reliability against the truth.

Probabilities come in steps of 1 / 255, as a byte a voxel. Counts are kept by twentieths of probability: few
enough for a table, and enough for Dice at 19 other thresholds, exactly, without predicting again.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from slicemill.core.evaluation.dice import Mask, dice_from_counts

#: Bins of probability, and the level that stands for a probability of 1.
BINS, TOP = 20, 255

Levels = npt.NDArray[np.uint8]

_BIN_OF_LEVEL = np.minimum((np.arange(TOP + 1) * BINS) // TOP, BINS - 1)


def _entropy_of_level() -> Levels:
    probability = np.arange(1, TOP) / TOP
    bits = -probability * np.log2(probability) - (1 - probability) * np.log2(1 - probability)
    return np.asarray(np.rint(np.concatenate([[0.0], bits, [0.0]]) * TOP), np.uint8)


_ENTROPY = _entropy_of_level()


@dataclass(frozen=True)
class ProbabilityCounts:
    """Voxels in each of `BINS` equal steps of probability, and those of them that are tumour."""

    voxels: tuple[int, ...]
    tumour: tuple[int, ...]

    def dice_at(self, edge: int) -> float:
        """Volumetric Dice of the mask that begins at bin `edge`: at the threshold edge / `BINS`.

        >>> counts = ProbabilityCounts(voxels=(90,) + (0,) * 18 + (10,), tumour=(2,) + (0,) * 18 + (8,))
        >>> counts.dice_at(10)
        0.8
        """
        return dice_from_counts(sum(self.tumour[edge:]), sum(self.voxels[edge:]), sum(self.tumour))


def entropy(levels: Levels) -> Levels:
    """Uncertainty of each voxel: the entropy of tumour or not, in steps of 1/255 bit, axes as of `levels`.

    >>> [int(step) for step in entropy(np.array([0, 13, 128, 255], np.uint8))]
    [0, 74, 255, 0]
    """
    return _ENTROPY[levels]


def level_counts(levels: Levels, predicted: Mask, true: Mask | None) -> npt.NDArray[np.int64]:
    """Voxels by mask (0, 1), truth (none, tumour, unknown) and level: int64, axes (2, 3, 256).

    All three arrays have the same axes; without `true`, every voxel is of unknown truth.
    """
    code = levels.astype(np.int64)
    code += np.int64(3 * (TOP + 1)) * (predicted != 0)
    code += (TOP + 1) * (2 if true is None else (true != 0))
    return np.bincount(code.ravel(), minlength=6 * (TOP + 1)).reshape(2, 3, TOP + 1)


def probability_counts(counts: npt.NDArray[np.int64]) -> ProbabilityCounts:
    """Counts of labelled voxels and of tumour by probability, from `level_counts`."""
    labelled = counts.sum(axis=0)[:2]
    return ProbabilityCounts(_binned(labelled.sum(axis=0)), _binned(labelled[1]))


def _binned(by_level: npt.NDArray[np.int64]) -> tuple[int, ...]:
    counts = np.bincount(_BIN_OF_LEVEL, by_level, minlength=BINS)
    return tuple(int(count) for count in counts)


def expected_dice(counts: npt.NDArray[np.int64]) -> float:
    """Dice to be expected if every probability holds: 2 sum(p in mask) / (mask + sum(p)), of `level_counts`.

    A quotient of expectations, close to the expectation of the quotient for more than a few voxels. 1 if
    nothing is predicted and nothing is probable.
    """
    probability = np.arange(TOP + 1) / TOP
    inside = counts[1].sum(axis=0)
    mass = float(counts.sum(axis=(0, 1)) @ probability)
    size = float(inside.sum())
    return 2 * float(inside @ probability) / (size + mass) if size + mass else 1.0
