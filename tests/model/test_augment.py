from __future__ import annotations

import torch

from slicemill.model.loading.augment import BOTH_ABSENT, INTENSITY, NOISE, ONE_ABSENT, Augmentation


def _disks(count: int) -> torch.Tensor:
    """Soft disks off the centre, axes (N, 1, 64, 64)."""
    rows, columns = torch.meshgrid(torch.arange(64.0), torch.arange(64.0), indexing="ij")
    distance = ((rows - 24) ** 2 + (columns - 36) ** 2).sqrt()
    return (8 - distance).clamp(0, 1).expand(count, 1, 64, 64).clone()


def test_image_and_mask_move_together() -> None:
    masks = _disks(16)
    torch.manual_seed(0)
    images, moved = Augmentation().geometry(masks.repeat(1, 3, 1, 1), masks)

    torch.testing.assert_close(images, moved.repeat(1, 3, 1, 1), atol=1e-6, rtol=0)
    assert not torch.equal(moved, masks)


def test_strength_0_leaves_flips_only() -> None:
    masks = _disks(16)
    torch.manual_seed(0)
    images, moved = Augmentation(0.0)(masks.repeat(1, 3, 1, 1), masks)

    seen = set()
    for image, mask, before in zip(images, moved, masks, strict=True):
        flips = {axes: torch.flip(before, axes) for axes in ((), (1,), (2,), (1, 2))}
        (found,) = (axes for axes, flipped in flips.items() if torch.allclose(mask, flipped, atol=1e-4))
        torch.testing.assert_close(image, mask.expand(3, -1, -1), atol=1e-4, rtol=0)
        seen.add(found)
    assert len(seen) == 4


def test_intensity_keeps_the_order_of_grey_values_and_stays_within_its_draws() -> None:
    ramp = torch.linspace(-2, 3, 64 * 64).reshape(1, 1, 64, 64).repeat(32, 3, 1, 1)
    torch.manual_seed(0)
    changed = Augmentation().intensity(ramp)

    # The noise alone may swap neighbours: block means may not be.
    blocks = changed.reshape(32, 3, 16, 256).mean(dim=3)
    assert (blocks.diff(dim=2) > 0).all()
    assert (changed.amax(dim=(2, 3)) <= 3 * (1 + INTENSITY) + INTENSITY + 6 * NOISE).all()
    assert blocks[:, :, 8].std() > 0.05


def test_masks_stay_shares_and_keep_about_their_area() -> None:
    masks = _disks(16)
    torch.manual_seed(1)
    _, moved = Augmentation()(masks.repeat(1, 3, 1, 1), masks)

    assert moved.min() >= 0
    assert moved.max() <= 1 + 1e-6
    ratio = moved.sum(dim=(1, 2, 3)) / masks.sum(dim=(1, 2, 3))
    assert (ratio > 0.75).all()
    assert (ratio < 1.3).all()


def test_every_slice_has_its_own_draw_and_the_seed_decides() -> None:
    masks, augmentation = _disks(8), Augmentation()
    made = []
    for seed in (3, 3, 4):
        torch.manual_seed(seed)
        made.append(augmentation(masks.repeat(1, 3, 1, 1), masks)[0])

    assert torch.equal(made[0], made[1])
    assert not torch.equal(made[0], made[2])
    assert all(not torch.equal(made[0][0], other) for other in made[0][1:])


def test_the_border_continues_instead_of_becoming_a_dark_frame() -> None:
    torch.manual_seed(0)
    images, _ = Augmentation().geometry(torch.full((8, 3, 32, 32), -2.0), torch.zeros(8, 1, 32, 32))

    assert (images.amax(dim=(2, 3)) - images.amin(dim=(2, 3)) < 1e-4).all()


def test_flair_stands_in_for_sequences_now_and_then() -> None:
    images = torch.arange(3.0).reshape(1, 3, 1, 1).repeat(20_000, 1, 4, 4)
    torch.manual_seed(0)
    seen = Augmentation().absence(images)

    assert (seen == seen[:, :, :1, :1]).all()
    kinds = {tuple(map(int, kind)): 0 for kind in seen[:, :, 0, 0].unique(dim=0)}
    for kind in seen[:, :, 0, 0].tolist():
        kinds[tuple(map(int, kind))] += 1
    both = BOTH_ABSENT + (1 - BOTH_ABSENT) * ONE_ABSENT**2
    alone = (1 - BOTH_ABSENT) * ONE_ABSENT * (1 - ONE_ABSENT)
    assert kinds.keys() == {(0, 1, 2), (1, 1, 1), (1, 1, 2), (0, 1, 1)}
    assert abs(kinds[1, 1, 1] / 20_000 - both) < 0.01
    assert abs(kinds[1, 1, 2] / 20_000 - alone) < 0.01
    assert abs(kinds[0, 1, 1] / 20_000 - alone) < 0.01
    assert torch.equal(Augmentation(0.0).absence(images), images)
