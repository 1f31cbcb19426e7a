"""What scoring writes beside a scan's masks if it is asked to: volumes for viewers, pictures of outlines."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from slicemill.core.scans.scan import FLAIR, Scan
from slicemill.io.nifti import nifti
from slicemill.io.picture import outline_png
from slicemill.types import ScanMasks

#: Share of FLAIR's voxels that are shown as white.
_BRIGHTEST = 0.998


@dataclass(frozen=True)
class Extras:
    """Which of them are on."""

    nifti: bool = False
    probabilities: bool = False
    outlines: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        """What is on, in words that go into a manifest entry's key: empty as in releases without extras."""
        states = (("nifti", self.nifti), ("probabilities", self.probabilities), ("outlines", self.outlines))
        return tuple(name for name, on in states if on)

    def files(
        self, scan: Scan, masks: ScanMasks, levels: npt.NDArray[np.uint8] | None, model_id: str
    ) -> Iterator[tuple[str, bytes]]:
        """Names and bytes of a scan's extra files.

        `masks`: 0/1, `levels`: probabilities in steps of 1/255; both uint8, axes (S, H, W).
        """
        numbers = [source.slice_index for source in scan.slices]
        if self.nifti:
            yield f"{scan.scan_id}_mask.nii.gz", nifti(masks, numbers, scan.spacing, f"mask {model_id}")
        if self.probabilities and levels is not None:
            words = f"probability {model_id}"
            name = f"{scan.scan_id}{PROBABILITY}"
            yield name, nifti(levels, numbers, scan.spacing, words, 1 / 255)
        if self.outlines:
            yield from _outlines(scan, masks)


#: End of the name of a file of probabilities.
PROBABILITY = "_probability.nii.gz"
NO_EXTRAS = Extras()


def _outlines(scan: Scan, masks: ScanMasks) -> Iterator[tuple[str, bytes]]:
    """A picture of each slice with a predicted or a true tumour."""
    flair = scan.images[..., FLAIR]
    white = max(float(np.quantile(flair, _BRIGHTEST)), 1.0)
    for source, plane, mask in zip(scan.slices, flair, masks, strict=True):
        if mask.any() or (source.mask is not None and source.mask.any()):
            grey = np.minimum(plane * (255.0 / white), 255.0).astype(np.uint8)
            yield f"{scan.scan_id}_{source.slice_index}_outline.png", outline_png(grey, mask, source.mask)
