from __future__ import annotations

import numpy as np
import pytest
import torch

from slicemill.model.input import resize, to_network_input, to_network_mask

NORMALISATION = torch.tensor([[[0.0, 100.0, 20.0, 40.0]] * 3])


def _slices(count: int, height: int, width: int) -> torch.Tensor:
    draw = np.random.default_rng(height * width)
    return torch.from_numpy(draw.integers(0, 256, (count, height, width, 3), dtype=np.uint8))


def test_clip_and_z_score_without_a_change_of_size() -> None:
    images = torch.zeros(1, 32, 32, 3, dtype=torch.uint8)
    images[0, 0, 0] = torch.tensor([60, 0, 255])

    found = to_network_input(images, NORMALISATION, 32)

    assert found.shape == (1, 3, 32, 32)
    assert found.dtype == torch.float32
    assert found.is_contiguous(memory_format=torch.channels_last)
    assert found[0, :, 0, 0].tolist() == [1.0, -0.5, 2.0]


def test_each_slice_takes_its_own_normalisation() -> None:
    images = torch.full((2, 32, 32, 3), 60, dtype=torch.uint8)
    other = torch.tensor([[[0.0, 50.0, 10.0, 10.0]] * 3])

    found = to_network_input(images, torch.cat([NORMALISATION, other]), 32)

    assert (found[0] == 1).all()
    assert (found[1] == 4).all()


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(
    ("height", "width", "size"), [(256, 256, 128), (64, 64, 96), (50, 31, 32), (32, 32, 32)]
)
def test_a_slice_is_bit_equal_alone_and_in_any_batch(
    height: int, width: int, size: int, threads: int
) -> None:
    images = _slices(9, height, width)
    scales = torch.rand(9, 3, 4) + torch.tensor([0.0, 150.0, 40.0, 20.0])
    together = to_network_input(images, scales, size)

    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        for part in (slice(0, 1), slice(8, 9), slice(2, 6)):
            assert torch.equal(to_network_input(images[part], scales[part], size), together[part])
    finally:
        torch.set_num_threads(before)


def test_a_small_tumour_keeps_its_weight_where_slices_shrink() -> None:
    mask = torch.zeros(1, 64, 64, dtype=torch.uint8)
    mask[0, 30:32, 30:32] = 1

    found = to_network_mask(mask, 32)

    assert found.shape == (1, 1, 32, 32)
    assert found.sum().item() == pytest.approx(1, rel=1e-5)
    assert 0 < found.max() < 1


def test_shrinking_is_low_pass_filtered() -> None:
    # Stripes finer than the coarse grid must become grey, not alias to stripes of another width.
    stripes = torch.zeros(1, 1, 64, 64)
    stripes[..., ::2] = 1

    shrunk = resize(stripes, 24, 24)

    assert (shrunk[..., 2:-2] - 0.5).abs().max() < 0.1
