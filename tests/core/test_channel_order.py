"""Permuted channels are found among twenty scans, right ones are not accused."""

from __future__ import annotations

import numpy as np
import pytest

from slicemill.core.profiles.channel_order import MIN_SCANS, channel_order_doubt
from slicemill.core.profiles.drift import Appearance, training_profile

#: Middles of mean, p50, p90, p99 of each channel.
MIDDLES = np.array([[20, 10, 60, 110], [30, 12, 90, 170], [25, 14, 75, 140]], float)


def scans(count: int, seed: int) -> np.ndarray:
    """Statistics of scans, axes (scans, channels, statistics)."""
    return np.random.default_rng(seed).normal(MIDDLES, 0.15 * MIDDLES, (count, *MIDDLES.shape))


def profile(values: np.ndarray) -> dict:
    return training_profile([Appearance(8, 8, (), *scan.T.tolist()) for scan in values])


def columns(values: np.ndarray) -> list:
    return values.transpose(0, 2, 1).tolist()


@pytest.mark.parametrize("order", [(1, 0, 2), (0, 2, 1), (2, 1, 0), (1, 2, 0), (2, 0, 1)])
def test_scans_with_permuted_channels_are_told_how(order: tuple[int, ...]) -> None:
    # Channel k of the delivery holds what training has in channel order[k].
    delivered = scans(22, seed=1)[:, list(order)]
    names = np.array(["pre-contrast", "FLAIR", "post-contrast"])[list(order)]
    doubt = channel_order_doubt(columns(delivered), profile(scans(60, seed=0)))
    assert doubt is not None
    assert f"look like {', '.join(names)} instead of pre-contrast, FLAIR, post-contrast" in doubt


def test_scans_in_order_are_not_accused() -> None:
    known = profile(scans(60, seed=0))
    assert [channel_order_doubt(columns(scans(22, seed=seed)), known) for seed in range(1, 20)] == [None] * 19


def test_too_few_scans_or_a_card_without_profile_say_nothing() -> None:
    delivered = columns(scans(MIN_SCANS, seed=1)[:, [1, 0, 2]])
    assert channel_order_doubt(delivered[1:], profile(scans(60, seed=0))) is None
    assert channel_order_doubt(delivered, {}) is None
