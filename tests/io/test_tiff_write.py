"""TIFF files that we write have the public set's form and come back unchanged."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from slicemill.io.raw.decode import decode_slice
from slicemill.io.raw.tiff import decode_tiff
from slicemill.io.raw.tiff_write import encode_image, encode_mask

_PIXELS = 1 << 20
#: Tags of a public file, without those that say where its strips lie.
_TAGS = {"width": 256, "height": 257, "compression": 259, "photometric": 262, "samples": 277, "planar": 284}


def _tags(data: bytes) -> dict[str, object]:
    with Image.open(io.BytesIO(data)) as image:
        tags = image.tag_v2  # type: ignore[attr-defined]
        assert not {282, 283, 296} & set(tags), "the public files carry no resolution"
        assert set(tags[339]) == {1}
        return {name: tags[number] for name, number in _TAGS.items()}


def test_an_image_comes_back_unchanged() -> None:
    image = np.random.default_rng(0).integers(0, 256, (40, 30, 3), dtype=np.uint8)
    np.testing.assert_array_equal(decode_slice(encode_image(image), _PIXELS).pixels, image)


def test_an_image_has_the_public_tags() -> None:
    data = encode_image(np.zeros((40, 30, 3), np.uint8))
    assert data[:4] == b"II*\0"
    expected = {"width": 30, "height": 40, "compression": 1, "photometric": 2, "samples": 3, "planar": 1}
    assert _tags(data) == expected


@pytest.mark.parametrize("kind", [np.uint8, np.bool_])
def test_a_mask_is_stored_as_0_and_255(kind: type) -> None:
    mask = np.zeros((8, 6), kind)
    mask[2:4, 1:5] = 1
    data = encode_mask(mask)
    np.testing.assert_array_equal(decode_tiff(data, _PIXELS).pixels[..., 0], np.where(mask, 255, 0))
    expected = {"width": 6, "height": 8, "compression": 1, "photometric": 1, "samples": 1, "planar": 1}
    assert _tags(data) == expected


@pytest.mark.parametrize(
    "image",
    [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 1), np.uint8), np.zeros((4, 4, 3), np.uint16)],
    ids=["no channels", "one channel", "16 bits"],
)
def test_another_array_is_no_image(image: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"expected uint8 \(H, W, 3\)"):
        encode_image(image)


@pytest.mark.parametrize(
    "mask",
    [np.full((4, 4), 255, np.uint8), np.zeros((4, 4, 1), np.uint8), np.zeros((4, 4), np.float32)],
    ids=["0 and 255", "an axis too many", "floats"],
)
def test_another_array_is_no_mask(mask: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"expected 0/1 of axes \(H, W\)"):
        encode_mask(mask)
