"""What is sound by its form and doubtful by what it shows: masks that cover too much, contrast that is lost.

Nothing is set aside for it. The limits lie well outside what 85 of the public scans hold: there, no mask
covers more than 12.1 % of its slice, or has more than 14.4 % of its pixels on the background; no channel has
more than three voxels in a million at 255; and 98 % of a channel's voxels span at least 33 grey values.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from slicemill.core.profiles.sequences import SliceChannels
from slicemill.core.profiles.statistics import statistics
from slicemill.core.scans.scan import SEQUENCES, Scan
from slicemill.types import Histograms, SliceImage, SliceMask

#: A mask is large if it covers more than this share of its slice.
LARGE_SHARE = 0.25
#: A mask lies on the background if more than this share of its pixels does.
BACKGROUND_SHARE = 0.5
#: Background is darker than this share of the brightest channel's p99, in every channel.
_DARK_SHARE = 0.1
#: A channel is saturated if more than this share of its voxels is 255. Scaling brings
#: half a percent of 16-bit voxels there, and what rounds to it.
SATURATED_SHARE = 0.02
#: A channel has lost its contrast if p01 and p99 are closer than this, in grey values.
LEAST_CONTRAST = 20.0
#: Slice numbers that a sentence names.
_NAMED = 10


class MaskDoubt(StrEnum):
    """Why a mask is implausible."""

    FULL = "cover every pixel"
    INVERTED = "look inverted: they cover all four corners and most of the slice"
    LARGE = "cover more than a quarter of the slice"
    BACKGROUND = "lie mostly on the background"


@dataclass(frozen=True)
class ScanDoubts:
    """What is doubtful about a scan: numbers of slices with implausible masks, and everything in words."""

    implausible_masks: tuple[int, ...] = ()
    sentences: tuple[str, ...] = ()


def mask_doubt(mask: SliceMask, image: SliceImage, dark: float) -> MaskDoubt | None:
    """Why a 0/1 mask, axes (H, W), is implausible on its image, axes (H, W, C), or None.

    `dark` is the grey value below which a pixel is background, if all its channels are.
    """
    area = int(np.count_nonzero(mask))
    if area == 0:
        return None
    if area == mask.size:
        return MaskDoubt.FULL
    if mask[:: max(1, len(mask) - 1), :: max(1, mask.shape[1] - 1)].all() and area > mask.size / 2:
        return MaskDoubt.INVERTED
    if area > LARGE_SHARE * mask.size:
        return MaskDoubt.LARGE
    if np.count_nonzero(image[mask > 0].max(axis=-1) < dark) > BACKGROUND_SHARE * area:
        return MaskDoubt.BACKGROUND
    return None


def scan_doubts(scan: Scan, channels: Sequence[SliceChannels]) -> ScanDoubts:
    """What is doubtful about a scan; `channels` has `slice_channels` of each slice."""
    pairs = list(zip(scan.slices, channels, strict=True))
    pictures = [slice_.histogram for slice_, content in pairs if not content.empty]
    counts: Histograms = np.sum(pictures or [slice_.histogram for slice_ in scan.slices], axis=0)
    dark = _DARK_SHARE * float(statistics(counts).p99.max())
    doubts: dict[MaskDoubt, list[int]] = defaultdict(list)
    for slice_ in scan.slices:
        doubt = mask_doubt(slice_.mask, slice_.image, dark) if slice_.mask is not None else None
        if doubt:
            doubts[doubt].append(slice_.slice_index)
    return ScanDoubts(
        tuple(sorted(number for numbers in doubts.values() for number in numbers)),
        (*_mask_sentences(doubts), *_image_sentences(counts)),
    )


def _mask_sentences(doubts: Mapping[MaskDoubt, Sequence[int]]) -> list[str]:
    sentences = []
    for doubt, numbers in sorted(doubts.items()):
        shown_numbers = ", ".join(map(str, numbers[:_NAMED]))
        ellipsis = f", ... ({len(numbers)} in all)" if numbers[_NAMED:] else ""
        sentences.append(f"masks {doubt}: {'slices' if numbers[1:] else 'slice'} {shown_numbers}{ellipsis}")
    return sentences


def _image_sentences(counts: Histograms) -> list[str]:
    """Sentences on a scan's channels, from their histograms, axes (C, 256)."""
    numbers = statistics(counts)
    sentences = []
    for channel, histogram in enumerate(counts):
        name = SEQUENCES[channel] if channel < len(SEQUENCES) else f"channel {channel}"
        if np.count_nonzero(histogram) < 2:
            # A channel of one value is a missing sequence.
            continue
        full = histogram[255] / histogram.sum()
        span = numbers.p99[channel] - numbers.p01[channel]
        if span < LEAST_CONTRAST:
            sentences.append(f"{name} has lost its contrast: 98 % of its voxels span {span:.0f} grey values")
        elif full > SATURATED_SHARE:
            sentences.append(f"{name} is saturated: {full:.1%} of its voxels have the largest value")
    return sentences
