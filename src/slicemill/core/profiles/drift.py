"""Is a scan like those that a model was trained on? Told by intensities, size and missing sequences.

The profile is small enough for a model card, and holds no scan's name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from slicemill.core.scans.scan import SEQUENCES

#: Statistics of a scan that are compared, names of `slicemill.schemas.STATISTICS`.
COMPARED = ("mean", "p50", "p90", "p99")

#: Percentiles over the training scans between which a value is usual.
_USUAL = (5, 95)

#: A value is far off if it is outside the usual range by this many of its widths and this many grey values.
_WIDTHS, _GREY_VALUES = 0.5, 10.0


@dataclass(frozen=True)
class Appearance:
    """A scan as it is compared: slice size, and a value a channel of each statistic, in grey values."""

    height: int
    width: int
    missing_sequences: Sequence[str]
    mean: Sequence[float]
    p50: Sequence[float]
    p90: Sequence[float]
    p99: Sequence[float]


def training_profile(scans: Sequence[Appearance]) -> dict[str, Any]:
    """What training scans look like, ready for JSON.

    `channels` has, for each channel and compared statistic, the usual range: the 5th and 95th percentile over
    the scans, in grey values.
    """
    values = {name: np.array([getattr(row, name) for row in scans], np.float64) for name in COMPARED}
    channels = values[COMPARED[0]].shape[1] if scans else 0
    missing = [name for row in scans for name in row.missing_sequences]
    return {
        "scans": len(scans),
        "sizes": [list(size) for size in sorted({(int(row.height), int(row.width)) for row in scans})],
        "missing_sequences": {name: missing.count(name) for name in SEQUENCES if name in missing},
        "channels": [
            {name: np.percentile(values[name][:, channel], _USUAL).tolist() for name in COMPARED}
            for channel in range(channels)
        ],
    }


def joined_profile(profiles: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The profile of models that score together: usual is what is usual to any of them.

    Counts are those of the member that had the most scans. Empty if a member has none.
    """
    if not all(profiles):
        return {}
    return {
        **max(profiles, key=lambda profile: int(profile["scans"])),
        "sizes": sorted({tuple(size) for profile in profiles for size in profile["sizes"]}),
        "channels": [
            {
                name: [min(usual[name][0] for usual in channel), max(usual[name][1] for usual in channel)]
                for name in COMPARED
            }
            for channel in zip(*(profile["channels"] for profile in profiles), strict=True)
        ],
    }


def drift_warnings(scan: Appearance, profile: Mapping[str, Any]) -> list[str]:
    """Where a scan differs from the training scans, in words.

    An empty profile, of an older model card, is compared with nothing; a missing sequence is named all the
    same.
    """
    warnings = [
        f"{name} is missing: its channel is FLAIR or one value ({_in_training(name, profile)})"
        for name in scan.missing_sequences
    ]
    sizes = [tuple(size) for size in profile.get("sizes", ())]
    size = (scan.height, scan.width)
    if sizes and size not in sizes:
        names = ", ".join(f"{height}x{width}" for height, width in sizes[:3])
        warnings.append(f"slices are {size[0]}x{size[1]}, in training {names}{', ...' if sizes[3:] else ''}")
    for channel, usual in enumerate(profile.get("channels", ())):
        name = SEQUENCES[channel] if channel < len(SEQUENCES) else f"channel {channel}"
        off = [
            f"{statistic} {value:.0f} (usual {low:.0f} to {high:.0f})"
            for statistic, (low, high) in usual.items()
            if _far(value := float(getattr(scan, statistic)[channel]), low, high)
        ]
        if off:
            warnings.append(f"{name} intensity is far from training: {', '.join(off)}")
    return warnings


def _in_training(name: str, profile: Mapping[str, Any]) -> str:
    if not profile.get("scans"):
        return "the model card does not say how often in training"
    return f"in training in {profile['missing_sequences'].get(name, 0)} of {profile['scans']} scans"


def _far(value: float, low: float, high: float) -> bool:
    margin = max(_WIDTHS * (high - low), _GREY_VALUES)
    return not low - margin <= value <= high + margin
