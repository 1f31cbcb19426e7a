"""Where a predicted mask is wrong: missed tumour, false tumour, and the border of what was matched."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from slicemill.core.evaluation.dice import Mask

#: Pixels, in rows and columns, that a wrong voxel may lie from a matched one and still be of the border.
BORDER = 2

Kind = Literal["none", "missed", "false positive", "border"]
Bool = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Mistakes:
    """Wrong voxels of a scan by kind; their sum is the number of voxels in which the two masks differ.

    A wrong voxel is of the `border` if a matched voxel of its slice lies within `BORDER` rows and columns.
    Of the others, `missed` are tumour in truth alone and `false` in the prediction alone.
    """

    missed: int
    false: int
    border: int

    @property
    def main(self) -> Kind:
        """The kind that holds most of the wrong voxels; of equals the first of missed, false, border.

        >>> Mistakes(missed=900, false=40, border=300).main
        'missed'
        """
        return main_mistake(self.missed, self.false, self.border)


def main_mistake(missed: int, false: int, border: int) -> Kind:
    """The kind that holds most of the wrong voxels; see `Mistakes.main`."""
    kinds: tuple[tuple[Kind, int], ...] = (("missed", missed), ("false positive", false), ("border", border))
    name, count = max(kinds, key=lambda kind: kind[1])
    return name if count else "none"


def mistakes(predicted: Mask, true: Mask) -> Mistakes:
    """Wrong voxels by kind; both masks have axes (S, H, W). Raises ValueError for unequal shapes."""
    if predicted.shape != true.shape or predicted.ndim != 3:
        raise ValueError(f"masks: expected two of axes (S, H, W), found {predicted.shape} and {true.shape}")
    missed = false = border = 0
    for ours, theirs in zip(predicted.astype(bool), true.astype(bool), strict=True):
        difference = ours != theirs
        if not difference.any():
            continue
        near = _widened(ours & theirs)
        missed += int(np.count_nonzero(difference & theirs & ~near))
        false += int(np.count_nonzero(difference & ours & ~near))
        border += int(np.count_nonzero(difference & near))
    return Mistakes(missed, false, border)


def _widened(plane: Bool) -> Bool:
    """Pixels within `BORDER` rows and columns of a set one."""
    for axis in (0, 1):
        wide = plane.copy()
        for step in range(1, BORDER + 1):
            first, last = slice(None, -step), slice(step, None)
            before, after = (
                ((first, slice(None)), (last, slice(None)))
                if axis == 0
                else ((slice(None), first), (slice(None), last))
            )
            wide[before] |= plane[after]
            wide[after] |= plane[before]
        plane = wide
    return plane
