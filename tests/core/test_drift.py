from __future__ import annotations

import json

import pytest

from slicemill.core.profiles.drift import COMPARED, Appearance, drift_warnings, training_profile


def scan(mean: float = 50, size: tuple[int, int] = (256, 256), missing: tuple[str, ...] = ()) -> Appearance:
    """A scan whose FLAIR has this mean; everything else is the same in all."""
    values = {name: [20.0, 60.0, 40.0] for name in COMPARED} | {"mean": [20.0, mean, 40.0]}
    return Appearance(*size, missing, **values)


TRAINING = [scan(mean) for mean in range(40, 61)] + [scan(50, missing=("pre-contrast",))]


def test_a_scan_like_the_training_scans_is_no_news() -> None:
    profile = training_profile(TRAINING)
    assert json.loads(json.dumps(profile)) == profile
    assert profile["scans"] == 22
    assert profile["channels"][1]["mean"] == pytest.approx([41.05, 58.95])
    assert drift_warnings(scan(64), profile) == []


def test_each_difference_is_said_in_words() -> None:
    profile = training_profile(TRAINING)
    found = drift_warnings(scan(90, (512, 512), ("pre-contrast", "post-contrast")), profile)
    assert found == [
        "pre-contrast is missing: its channel is FLAIR or one value (in training in 1 of 22 scans)",
        "post-contrast is missing: its channel is FLAIR or one value (in training in 0 of 22 scans)",
        "slices are 512x512, in training 256x256",
        "FLAIR intensity is far from training: mean 90 (usual 41 to 59)",
    ]


def test_far_is_half_a_range_and_ten_grey_values() -> None:
    profile = training_profile(TRAINING)
    low, high = profile["channels"][1]["mean"]
    assert not drift_warnings(scan(high + 10), profile)
    assert drift_warnings(scan(high + 10.1), profile)
    assert drift_warnings(scan(low - 10.1), profile)
    wide = training_profile([scan(mean) for mean in range(0, 101)])
    assert not drift_warnings(scan(95 + 45), wide)
    assert drift_warnings(scan(95 + 45.1), wide)


def test_a_card_without_a_profile_still_tells_what_is_missing() -> None:
    assert drift_warnings(scan(250, (8, 8)), {}) == []
    (found,) = drift_warnings(scan(missing=("post-contrast",)), {})
    assert "the model card does not say" in found


def test_a_profile_of_nothing() -> None:
    assert drift_warnings(scan(), training_profile([])) == []
