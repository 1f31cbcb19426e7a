"""Which sequences a scan lacks: the one function by which ingest, training and scoring decide.

The public set repeats FLAIR in place of a series that a scan has not; most exports leave its channel at zero,
or at another single value. Slices without any content, such as the padding above a head, have no say.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from slicemill.core.scans.scan import FLAIR, SEQUENCES, Scan, Slice

#: A sequence is missing if its channel is no picture of its own in more than this share of the slices.
_MISSING_SHARE = 0.5


@dataclass(frozen=True)
class SliceChannels:
    """What the channels of one slice hold.

    constant: per channel, whether all its pixels have one value. copy_of: per channel, the lower channel that
    it repeats, or None. blank: the whole slice has one value.
    """

    constant: tuple[bool, ...]
    copy_of: tuple[int | None, ...]
    blank: bool

    @property
    def empty(self) -> bool:
        """Whether no channel has content."""
        return all(self.constant)


def slice_channels(slice_: Slice) -> SliceChannels:
    """What the channels of a slice hold; the channels of a blank slice are not called copies."""
    counts = slice_.histogram
    constant = tuple((np.count_nonzero(counts, axis=-1) == 1).tolist())
    blank = bool(np.count_nonzero(counts.sum(axis=0)) == 1)
    copies: list[int | None] = [None] * len(counts)
    for channel in range(1, 0 if blank else len(counts)):
        for lower in range(channel):
            # Channels with other histograms can't be equal, and comparing pixels is the slow part.
            alike = copies[channel] is None and np.array_equal(counts[channel], counts[lower])
            if alike and np.array_equal(slice_.image[..., channel], slice_.image[..., lower]):
                copies[channel] = lower
    return SliceChannels(constant, tuple(copies), blank)


def missing_sequences(slices: Sequence[SliceChannels]) -> list[str]:
    """Sequences that a scan lacks: in most slices with content, a copy of FLAIR or a single value."""
    pictures = [channels for channels in slices if not channels.empty]
    if not pictures or len(pictures[0].constant) != len(SEQUENCES):
        return []
    lacking = np.mean([_lacking(channels) for channels in pictures], axis=0)
    return [name for name, share in zip(SEQUENCES, lacking, strict=True) if share > _MISSING_SHARE]


def _lacking(channels: SliceChannels) -> list[bool]:
    of = channels.copy_of
    like_flair = (of[FLAIR] == 0, False, of[2] == FLAIR or (of[2] == 0 and of[FLAIR] == 0))
    return [copy or single for copy, single in zip(like_flair, channels.constant, strict=True)]


def scan_missing_sequences(scan: Scan) -> list[str]:
    """Sequences that a scan lacks, from its pixels."""
    return missing_sequences([slice_channels(slice_) for slice_ in scan.slices])
