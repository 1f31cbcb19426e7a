"""Our numbers beside MONAI's on the same random masks."""

from __future__ import annotations

from types import ModuleType

import numpy as np
import pytest
import torch

from slicemill.core.evaluation.dice import scan_scores

SHAPE = (6, 24, 20)


@pytest.fixture(scope="module")
def metrics() -> ModuleType:
    """MONAI's; its import takes many seconds, which every worker would pay while it collects tests."""
    from monai import metrics

    return metrics


def masks(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Two 0/1 masks, axes (S, H, W): blobs, specks or nothing, by the seed."""
    random = np.random.default_rng(seed)

    def one() -> np.ndarray:
        noise = random.random(SHAPE)
        for axis in (0, 1, 2):
            noise = (noise + np.roll(noise, 1, axis) + np.roll(noise, -1, axis)) / 3
        share = (0.0, 0.0005, 0.02, 0.3)[random.integers(4)]
        return (noise > np.quantile(noise, 1 - share)).astype(np.uint8)

    return one(), one()


def by_monai(metric: type, predicted: np.ndarray, true: np.ndarray, **options: object) -> float:
    """One of MONAI's metrics of a batch of one volume."""
    ours, theirs = (torch.from_numpy(mask)[None, None].float() for mask in (predicted, true))
    return float(metric(include_background=True, **options)(ours, theirs))


@pytest.mark.parametrize("seed", range(40))
def test_dice_iou_and_hd95_are_monais(metrics: ModuleType, seed: int) -> None:
    predicted, true = masks(seed)
    found = scan_scores(predicted, true)
    dice, iou = metrics.DiceMetric, metrics.MeanIoU
    # MONAI's rule for empty truth is nan unless told; ours is 1 if both are empty, 0 if one is.
    assert found.dice == pytest.approx(by_monai(dice, predicted, true, ignore_empty=False), abs=1e-6)
    assert found.iou == pytest.approx(by_monai(iou, predicted, true, ignore_empty=False), abs=1e-6)
    if predicted.any() and true.any():
        expected = by_monai(metrics.HausdorffDistanceMetric, predicted, true, percentile=95)
        assert found.hd95 == pytest.approx(expected, rel=1e-5)
    else:
        assert found.hd95 is None


@pytest.mark.parametrize("seed", range(10))
def test_hd95_in_millimetres_is_monais(metrics: ModuleType, seed: int) -> None:
    predicted, true = masks(seed)
    if predicted.any() and true.any():
        ours, theirs = (torch.from_numpy(mask)[None, None].float() for mask in (predicted, true))
        metric = metrics.HausdorffDistanceMetric(include_background=True, percentile=95)
        expected = float(metric(ours, theirs, spacing=[5.0, 0.9, 0.8]))
        assert scan_scores(predicted, true, (5.0, 0.9, 0.8)).hd95 == pytest.approx(expected, rel=1e-5)


def test_the_seeds_cover_empty_masks() -> None:
    kinds = {(bool(left.any()), bool(right.any())) for left, right in map(masks, range(40))}
    assert kinds == {(True, True), (True, False), (False, True), (False, False)}


def test_the_slice_mean_is_monais_over_slices(metrics: ModuleType) -> None:
    predicted, true = masks(7)
    ours, theirs = (torch.from_numpy(mask)[:, None].float() for mask in (predicted, true))
    mean = metrics.DiceMetric(include_background=True, ignore_empty=False)(ours, theirs).mean()
    assert scan_scores(predicted, true).slice_mean_dice == pytest.approx(float(mean), abs=1e-6)
