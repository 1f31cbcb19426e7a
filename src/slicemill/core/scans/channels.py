"""A scan's slices to network input channels: a slice's own three, or FLAIR of three neighbouring slices.

The second is the way of Buda, Saha and Mazurowski, "Association of genomic subtypes of lower-grade gliomas
with shape features automatically extracted by a deep learning algorithm" (2019): where a scan has no pre- or
post-contrast series, the slices before and after stand in for them.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt

from slicemill.core.scans.scan import FLAIR, SEQUENCES
from slicemill.types import SliceImage

#: What a run decides by: a layout for all scans, or each scan's by whether it lacks a sequence.
ChannelMode = Literal["auto", "rgb", "flair25d"]

#: What one scan gets: its own channels, or FLAIR of the slice before, the slice, and the slice after.
Layout = Literal["rgb", "flair25d"]


def layout_for(mode: ChannelMode, missing_sequences: Collection[str]) -> Layout:
    """The layout of a scan that lacks these sequences (`slicemill.core.profiles.sequences`).

    >>> layout_for("auto", ["post-contrast"]), layout_for("auto", []), layout_for("rgb", ["post-contrast"])
    ('flair25d', 'rgb', 'rgb')
    """
    if mode == "auto":
        # Without FLAIR, its neighbours hold nothing that could stand in.
        return "flair25d" if missing_sequences and SEQUENCES[FLAIR] not in missing_sequences else "rgb"
    return mode


def input_slices(images: Sequence[SliceImage], layout: Layout) -> Sequence[SliceImage]:
    """A scan's slices with the channels that the network takes.

    `images`: all slices of a scan in the order of their slice_index, uint8, axes (H, W, 3), or one array with
    axes (S, H, W, 3). Returns as many of the same shape and order; with rgb the very same. The first and the
    last slice are their own missing neighbour; a gap in the slice numbers is skipped.
    """
    if layout == "rgb":
        return images
    flair = [image[..., FLAIR] for image in images]
    before, after = flair[:1] + flair[:-1], flair[1:] + flair[-1:]
    return [np.stack(three, axis=-1) for three in zip(before, flair, after, strict=True)]


def input_normalisation(normalisation: npt.NDArray[np.float32], layout: Layout) -> npt.NDArray[np.float32]:
    """The normalisation of `input_slices`, from that of the scan's stored channels: float32, axes (3, 4)."""
    return normalisation if layout == "rgb" else np.repeat(normalisation[FLAIR, None], 3, axis=0)
