"""Volumes for viewers: what nibabel reads is what was predicted, where the spacing puts it."""

from __future__ import annotations

import gzip
from typing import Any

import nibabel
import numpy as np
import pytest

from slicemill.errors import InputError
from slicemill.io.nifti import nifti, read_planes
from slicemill.io.picture import outline_png


def opened(data: bytes) -> Any:
    return nibabel.Nifti1Image.from_bytes(gzip.decompress(data))


@pytest.fixture
def planes() -> np.ndarray:
    """uint8, axes (4, 5, 7): four slices."""
    return np.random.default_rng(0).integers(0, 256, (4, 5, 7), dtype=np.uint8)


def test_a_reader_gets_each_slice_by_column_row_and_number(planes):
    image = opened(nifti(planes, [3, 4, 5, 6], None, "mask"))
    np.testing.assert_array_equal(np.asarray(image.dataobj), planes.transpose(2, 1, 0))
    assert image.get_data_dtype() == np.uint8


def test_the_spacing_is_in_the_zooms_and_the_affine(planes):
    image = opened(nifti(planes, [1, 2, 3, 4], (5.0, 0.9, 0.8), "mask"))
    np.testing.assert_allclose(image.header.get_zooms(), (0.8, 0.9, 5.0), rtol=1e-6)
    np.testing.assert_allclose(np.diag(image.affine), (-0.8, -0.9, 5.0, 1.0), rtol=1e-6)
    assert nibabel.aff2axcodes(image.affine) == ("L", "P", "S")
    assert image.header.get_xyzt_units()[0] == "mm"


def test_an_unknown_spacing_is_said_to_be_unknown(planes):
    header = opened(nifti(planes, [1, 2, 3, 4], None, "mask 0123")).header
    assert header.get_zooms() == (1.0, 1.0, 1.0)
    assert header.get_xyzt_units()[0] == "unknown"
    assert header["descrip"].item() == b"mask 0123; spacing unknown"


def test_a_missing_slice_is_an_empty_plane_and_counted(planes):
    image = opened(nifti(planes, [1, 2, 4, 7], (1.0, 1.0, 1.0), "mask"))
    volume = np.asarray(image.dataobj)
    assert volume.shape == (7, 5, 7)
    np.testing.assert_array_equal(volume[..., [0, 1, 3, 6]], planes.transpose(2, 1, 0))
    assert not volume[..., [2, 4, 5]].any()
    assert image.header["descrip"].item() == b"mask; 3 slices missing"


def test_probabilities_are_read_from_0_to_1(planes):
    image = opened(nifti(planes, [1, 2, 3, 4], None, "probability", 1 / 255))
    np.testing.assert_allclose(image.get_fdata(), planes.transpose(2, 1, 0) / 255, atol=1e-6)


def test_equal_volumes_are_equal_files(planes):
    assert nifti(planes, [1, 2, 3, 4], None, "a") == nifti(planes, [1, 2, 3, 4], None, "a")


def test_an_outline_is_the_border_of_its_mask():
    from io import BytesIO

    from PIL import Image

    mask = np.zeros((8, 8), np.uint8)
    mask[2:6, 2:6] = 1
    picture = np.asarray(Image.open(BytesIO(outline_png(np.full((8, 8), 7, np.uint8), mask, None))))
    coloured = (picture != 7).any(axis=-1)
    expected = mask.astype(bool)
    expected[3:5, 3:5] = False
    np.testing.assert_array_equal(coloured, expected)


def test_planes_come_back_by_their_slices_numbers(planes):
    stored = read_planes(nifti(planes, [1, 2, 4, 7], None, "probability", 1 / 255), [1, 2, 4, 7], "volume")
    assert list(stored) == [1, 2, 4, 7]
    for number, plane in zip(stored, planes, strict=True):
        np.testing.assert_array_equal(stored[number], plane)


def huge(data: bytes) -> bytes:
    """The same file, whose header says that it holds more pixels a slice than any scan."""
    header = bytearray(gzip.decompress(data))
    header[42:46] = (32767).to_bytes(2, "little") * 2
    return gzip.compress(bytes(header))


@pytest.mark.parametrize(
    "spoilt", [lambda data: data[:-40], lambda data: b"no volume", lambda data: gzip.compress(b"x"), huge]
)
def test_a_file_that_is_not_the_scored_volume_is_refused(planes, spoilt):
    data = spoilt(nifti(planes, [1, 2, 3, 4], None, "probability"))
    with pytest.raises(InputError, match="not the volume that was scored"):
        read_planes(data, [1, 2, 3, 4], "volume")


def test_a_volume_of_other_slices_is_refused(planes):
    with pytest.raises(InputError, match="not the volume that was scored"):
        read_planes(nifti(planes, [1, 2, 3, 4], None, "probability"), [1, 2, 3], "volume")
