"""Synthetic scans: repeatable, of the public set's make-up, and too hard for a threshold."""

from __future__ import annotations

import re

import numpy as np
import pytest

from slicemill.config import PUBLIC_SCAN_PATTERN
from slicemill.core.evaluation.dice import dice
from slicemill.core.scans.patients import identify
from slicemill.core.scans.phantom import PhantomScan, make_scan, patient_id, scan_id

_FLAIR = 1
_SIZE = 96


@pytest.fixture(scope="module")
def scans() -> list[PhantomScan]:
    return [make_scan(number, 0, _SIZE) for number in range(1, 9)]


def test_the_same_number_and_seed_make_the_same_scan(scans: list[PhantomScan]) -> None:
    again = make_scan(3, 0, _SIZE)
    assert again.scan_id == scans[2].scan_id
    np.testing.assert_array_equal(again.images, scans[2].images)
    np.testing.assert_array_equal(again.masks, scans[2].masks)


def test_another_seed_makes_another_scan(scans: list[PhantomScan]) -> None:
    other = make_scan(3, 1, _SIZE)
    assert other.images.shape != scans[2].images.shape or (other.images != scans[2].images).any()


def test_arrays_are_slices_of_three_sequences_and_binary_masks(scans: list[PhantomScan]) -> None:
    for scan in scans:
        count = len(scan.images)
        assert 20 <= count <= 40
        assert scan.images.shape == (count, _SIZE, _SIZE, 3)
        assert scan.masks.shape == (count, _SIZE, _SIZE)
        assert scan.images.dtype == scan.masks.dtype == np.uint8
        assert set(np.unique(scan.masks)) == {0, 1}


def test_tumours_fill_about_a_third_of_slices_and_a_hundredth_of_voxels(scans: list[PhantomScan]) -> None:
    slices = sum(len(scan.masks) for scan in scans)
    with_tumour = sum(int(scan.masks.any(axis=(1, 2)).sum()) for scan in scans)
    assert 0.25 < with_tumour / slices < 0.45
    assert 0.003 < np.mean([scan.masks.mean() for scan in scans]) < 0.02


def test_no_threshold_of_flair_finds_the_tumours(scans: list[PhantomScan]) -> None:
    scaled = []
    for scan in scans:
        flair = scan.images[..., _FLAIR].astype(float)
        low, high = np.percentile(flair, (10, 99))
        scaled.append((flair - low) / (high - low))
    for volumes in (scaled, [scan.images[..., _FLAIR] / 255 for scan in scans]):
        best = max(
            np.mean([dice(volume > cut, scan.masks) for volume, scan in zip(volumes, scans, strict=True)])
            for cut in np.linspace(0.05, 1.5, 60)
        )
        assert best < 0.4


def test_pre_contrast_tells_tumour_from_other_bright_tissue(scans: list[PhantomScan]) -> None:
    # What a network can learn: bright in FLAIR and dark before contrast, unlike scalp, caps and spots.
    told = 0
    for scan in scans:
        pre, flair = (scan.images[..., channel].astype(float) for channel in (0, _FLAIR))
        tumour = scan.masks.astype(bool)
        bright = (flair > np.median(flair[tumour])) & ~tumour
        told += np.median(pre[tumour]) < 0.8 * np.median(pre[bright])
    # A scan without its pre-contrast sequence repeats FLAIR there.
    missing = sum(np.array_equal(scan.images[..., 0], scan.images[..., _FLAIR]) for scan in scans)
    assert told >= len(scans) - missing
    assert missing < len(scans) / 2


def test_a_scan_now_and_then_lacks_a_sequence() -> None:
    lacking = 0
    for number in range(1, 31):
        images = make_scan(number, 0, 32).images
        lacking += any(np.array_equal(images[..., channel], images[..., _FLAIR]) for channel in (0, 2))
    assert 1 <= lacking <= 10


def test_names_parse_like_the_public_ones_and_say_phantom() -> None:
    pattern = re.compile(PUBLIC_SCAN_PATTERN)
    names = [scan_id(number, 0) for number in range(1, 7)]
    for number, name in enumerate(names, start=1):
        identity = identify(name, pattern, {})
        assert identity.patient_id == patient_id(number)
        assert identity.patient_id.startswith("PHANTOM_SY")
        assert identity.institution in ("SYA", "SYB", "SYC")
        assert identity.scan_date is not None
    assert len({identify(name, pattern, {}).institution for name in names}) == 3
