from __future__ import annotations

import math

import pytest
import torch

from slicemill.model.training.losses import DICE_SMOOTHING, bce_dice, cross_entropy, dice_focal

ONES = torch.ones(2)


def _logits(probability: float, *shape: int) -> torch.Tensor:
    return torch.full(shape, torch.logit(torch.tensor(probability)).item())


def test_known_answer() -> None:
    # p = 0.5 everywhere: cross-entropy is ln 2; 32 of 64 pixels are tumour, so 2 * 16 over 32 + 32 is a half.
    targets = torch.zeros(2, 1, 4, 8)
    targets[0] = 1

    loss = bce_dice(_logits(0.5, 2, 1, 4, 8), targets, ONES)

    smoothing = DICE_SMOOTHING * 64
    assert loss.item() == pytest.approx(0.693147 + 1 - (32 + smoothing) / (64 + smoothing), abs=1e-5)


def test_a_perfect_answer_costs_nothing_with_and_without_tumour() -> None:
    for targets in (torch.zeros(2, 1, 8, 8), torch.ones(2, 1, 8, 8)):
        assert bce_dice((targets * 2 - 1) * 40, targets, ONES).item() == pytest.approx(0, abs=1e-6)


def test_a_batch_without_tumour_punishes_false_positives_in_both_terms() -> None:
    empty = torch.zeros(2, 1, 32, 32)
    losses = [bce_dice(_logits(share, 2, 1, 32, 32), empty, ONES).item() for share in (1e-5, 1e-3, 0.1)]

    entropies = [
        torch.nn.functional.binary_cross_entropy_with_logits(_logits(share, 2, 1, 32, 32), empty).item()
        for share in (1e-5, 1e-3, 0.1)
    ]
    dice_terms = [loss - entropy for loss, entropy in zip(losses, entropies, strict=True)]
    assert losses == sorted(losses)
    assert dice_terms[0] < 0.02
    assert dice_terms[1] == pytest.approx(0.5, abs=0.01)
    assert dice_terms[2] > 0.98


def test_its_gradient_pushes_false_positives_down() -> None:
    logits = torch.zeros(1, 1, 16, 16, requires_grad=True)
    torch.autograd.backward(bce_dice(logits, torch.zeros(1, 1, 16, 16), torch.ones(1)))

    assert logits.grad is not None
    assert (logits.grad > 0).all()


def test_a_slice_of_weight_0_has_no_say() -> None:
    torch.manual_seed(0)
    logits, targets = torch.randn(2, 1, 8, 8, requires_grad=True), (torch.rand(2, 1, 8, 8) > 0.5).float()
    torch.autograd.backward(bce_dice(logits, targets, torch.tensor([1.0, 0.0])))

    assert logits.grad is not None
    assert logits.grad[0].abs().sum() > 0
    assert logits.grad[1].abs().sum() == 0


def test_a_step_of_nothing_but_fill_is_finite_and_without_gradient() -> None:
    logits = torch.randn(2, 1, 8, 8, requires_grad=True)
    loss = bce_dice(logits, torch.ones(2, 1, 8, 8), torch.zeros(2))
    torch.autograd.backward(loss)

    assert loss.item() == 0
    assert logits.grad is not None
    assert logits.grad.abs().sum() == 0


def test_bf16_logits_are_summed_in_fp32() -> None:
    targets = torch.zeros(4, 1, 256, 256)

    loss = bce_dice(_logits(0.01, 4, 1, 256, 256).bfloat16(), targets, torch.ones(4))

    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(
        bce_dice(_logits(0.01, 4, 1, 256, 256), targets, torch.ones(4)).item(), rel=0.02
    )


def test_dice_focal_is_monais_with_the_same_smoothing() -> None:
    torch.manual_seed(0)
    logits, targets = torch.randn(4, 1, 16, 16), (torch.rand(4, 1, 16, 16) > 0.7).float()
    smoothing = DICE_SMOOTHING * targets.numel()
    # Imported here: it takes many seconds, which every worker would pay while it collects tests.
    from monai.losses.dice import DiceFocalLoss

    theirs = DiceFocalLoss(
        sigmoid=True, batch=True, gamma=2.0, smooth_nr=smoothing, smooth_dr=smoothing, reduction="mean"
    )

    assert dice_focal(logits, targets, torch.ones(4)).item() == pytest.approx(
        theirs(logits, targets).item(), rel=1e-5
    )


def test_cross_entropy_of_slices_counts_only_those_with_weight() -> None:
    logits, labels = torch.tensor([[0.0], [8.0]]), torch.tensor([[1.0], [0.0]])

    found = cross_entropy(logits, labels, torch.tensor([1.0, 0.0])).item()

    assert found == pytest.approx(math.log(2) / 2, rel=1e-6)
