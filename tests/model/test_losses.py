from __future__ import annotations

import pytest
import torch

from slicemill.model.losses import DICE_SMOOTHING, segmentation_loss

ONES = torch.ones(2)


def _logits(probability: float, *shape: int) -> torch.Tensor:
    return torch.full(shape, torch.logit(torch.tensor(probability)).item())


def test_known_answer() -> None:
    # p = 0.5 everywhere: cross-entropy is ln 2; 32 of 64 pixels are tumour, so 2 * 16 over 32 + 32 is a half.
    targets = torch.zeros(2, 1, 4, 8)
    targets[0] = 1

    loss = segmentation_loss(_logits(0.5, 2, 1, 4, 8), targets, ONES)

    smoothing = DICE_SMOOTHING * 64
    assert loss.item() == pytest.approx(0.693147 + 1 - (32 + smoothing) / (64 + smoothing), abs=1e-5)


def test_a_perfect_answer_costs_nothing_with_and_without_tumour() -> None:
    for targets in (torch.zeros(2, 1, 8, 8), torch.ones(2, 1, 8, 8)):
        assert segmentation_loss((targets * 2 - 1) * 40, targets, ONES).item() == pytest.approx(0, abs=1e-6)


def test_a_batch_without_tumour_punishes_false_positives_in_both_terms() -> None:
    empty = torch.zeros(2, 1, 32, 32)
    losses = [
        segmentation_loss(_logits(share, 2, 1, 32, 32), empty, ONES).item() for share in (1e-5, 1e-3, 0.1)
    ]

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
    torch.autograd.backward(segmentation_loss(logits, torch.zeros(1, 1, 16, 16), torch.ones(1)))

    assert logits.grad is not None
    assert (logits.grad > 0).all()


def test_a_slice_of_weight_0_has_no_say() -> None:
    torch.manual_seed(0)
    logits, targets = torch.randn(2, 1, 8, 8, requires_grad=True), (torch.rand(2, 1, 8, 8) > 0.5).float()
    torch.autograd.backward(segmentation_loss(logits, targets, torch.tensor([1.0, 0.0])))

    assert logits.grad is not None
    assert logits.grad[0].abs().sum() > 0
    assert logits.grad[1].abs().sum() == 0


def test_a_step_of_nothing_but_fill_is_finite_and_without_gradient() -> None:
    logits = torch.randn(2, 1, 8, 8, requires_grad=True)
    loss = segmentation_loss(logits, torch.ones(2, 1, 8, 8), torch.zeros(2))
    torch.autograd.backward(loss)

    assert loss.item() == 0
    assert logits.grad is not None
    assert logits.grad.abs().sum() == 0


def test_bf16_logits_are_summed_in_fp32() -> None:
    targets = torch.zeros(4, 1, 256, 256)

    loss = segmentation_loss(_logits(0.01, 4, 1, 256, 256).bfloat16(), targets, torch.ones(4))

    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(
        segmentation_loss(_logits(0.01, 4, 1, 256, 256), targets, torch.ones(4)).item(), rel=0.02
    )
