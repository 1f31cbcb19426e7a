"""NumPy files (.npy) to slices: the header is checked before any number is read, and nothing is unpickled."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.lib import format as npy

from slicemill.core.rasters.form import Raster, RasterForm
from slicemill.core.rasters.images import SlicePixels, slice_pixels
from slicemill.core.rasters.tiff_layout import check_size
from slicemill.core.scans.integrity import BadImageError, Reason

SIGNATURE = b"\x93NUMPY"

#: Slices that one file may hold.
MAX_SLICES = 2048

_AXES = "(rows, columns), (rows, columns, 3) or (slices, rows, columns, 3)"
_READERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}


def decode_npy(data: bytes, max_pixels: int) -> list[SlicePixels]:
    """The slices in the bytes of a .npy file, in their order; grey is repeated in three channels, and noted.

    Read: uint8 or uint16, either byte order, axes (H, W), (H, W, 3) or (S, H, W, 3). Memory is the file's
    own. Raises BadImageError for anything else.
    """
    shape, fortran, dtype, start = _header(data)
    if dtype.kind != "u" or dtype.itemsize > 2:
        raise BadImageError(
            Reason.UNEXPECTED_DEPTH, "unexpected pixel depth", str(dtype), "8 or 16 bits unsigned"
        )
    slices, height, width, samples = _four_axes(shape)
    check_size(width, height, max_pixels)
    size = math.prod(shape) * dtype.itemsize
    if len(data) - start != size:
        raise BadImageError(
            Reason.TRUNCATED,
            "the array does not fill the file",
            f"{len(data) - start} bytes",
            f"{size} bytes",
        )
    array = np.frombuffer(data, dtype, offset=start)
    array = array.reshape(shape[::-1]).T if fortran else array.reshape(shape)
    stack = np.ascontiguousarray(
        array.reshape((slices, height, width, samples)), dtype=dtype.newbyteorder("=")
    )
    form = RasterForm(samples, 8 * dtype.itemsize, "unsigned", "rgb" if samples == 3 else "black_is_zero")
    return [slice_pixels(Raster(plane, form)) for plane in stack]


def _header(data: bytes) -> tuple[Sequence[int], bool, np.dtype[Any], int]:
    """Shape, whether columns come first, type of number, and where the numbers begin."""
    source = io.BytesIO(data)
    try:
        shape, fortran, dtype = _READERS[npy.read_magic(source)](source)
    except Exception as error:
        # A stranger's text goes through numpy's tokenizer and parser, which fail in many ways.
        raise BadImageError(
            Reason.UNREADABLE, "the header is not a .npy file's", type(error).__name__, "format 1.0 or 2.0"
        ) from error
    return shape, fortran, dtype, source.tell()


def _four_axes(shape: Sequence[int]) -> tuple[int, int, int, int]:
    """Slices, rows, columns and channels of an array."""
    match shape:
        case [height, width]:
            axes = (1, height, width, 1)
        case [height, width, 3]:
            axes = (1, height, width, 3)
        case [slices, height, width, 3] if 1 <= slices <= MAX_SLICES:
            axes = (slices, height, width, 3)
        case _:
            raise BadImageError(Reason.UNEXPECTED_SHAPE, "unexpected axes", str(tuple(shape)[:6]), _AXES)
    return axes
