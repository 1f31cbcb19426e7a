from __future__ import annotations

import numpy as np
import torch
from lake_builder import tiny_scan

from slicemill.core.scans.normalise import from_histogram
from slicemill.core.scans.scan import Scan, Slice
from slicemill.io.raw.tiff import count_values
from slicemill.model.input import to_network_input
from slicemill.model.loading.preview import augmented


def scan() -> Scan:
    tiny = tiny_scan("A", 3)
    slices = (
        Slice(number, image, mask if number else None, count_values(image), "present", "")
        for number, (image, mask) in enumerate(zip(tiny.images, tiny.masks, strict=True))
    )
    return Scan("A", "PA", tuple(slices), ())


def test_the_first_picture_is_what_the_network_gets():
    there = scan()
    images, masks = augmented(there, 2, 32, draws=3)
    histogram = np.sum([one.histogram for one in there.slices], axis=0)
    expected = to_network_input(
        torch.tensor(there.slices[2].image[None]), torch.tensor(from_histogram(histogram)[None]), 32
    )
    assert np.array_equal(images[0], expected[0].double().numpy())
    assert (images.shape, masks.shape) == ((4, 3, 32, 32), (4, 32, 32))


def test_draws_differ_and_come_back_with_their_seed():
    state = torch.get_rng_state()
    first, again, other = (augmented(scan(), 2, 32, draws=2, seed=seed)[0] for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first[1], first[2])
    assert not np.array_equal(first[1:], other[1:])
    assert torch.equal(torch.get_rng_state(), state)


def test_a_slice_without_mask_has_an_empty_one():
    assert not augmented(scan(), 0, 32, draws=1)[1].any()
