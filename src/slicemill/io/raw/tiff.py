"""TIFF files to arrays. Pillow sees only headers written here: a crafted tag never reaches it.

Read: samples of 1 to 64 bits; no compression, LZW, deflate, packbits or fax, with or without the horizontal
predictor; strips or tiles; interleaved or separate planes; either byte order. Which of these are an image or
a mask is decided by `slicemill.core.rasters.images` and `slicemill.core.rasters.masks`.
"""

from __future__ import annotations

import io
import math
import struct
import zlib
from collections.abc import Iterator
from itertools import islice
from operator import add
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, TiffImagePlugin  # noqa: F401  (registers the TIFF reader)

from slicemill.core.rasters.form import Acceptance, Raster, RasterForm
from slicemill.core.rasters.tiff_layout import TiffLayout, read_layout
from slicemill.core.scans.integrity import BadImageError, Reason
from slicemill.types import FilePixels, Histograms, SliceImage

_PILLOW_CODES = {"fax_runs": 2, "fax_group3": 3, "fax_group4": 4, "lzw": 5, "packbits": 32773}
_KIND_LETTERS = {"unsigned": "u", "signed": "i", "float": "f"}
#: Bytes that Pillow decompresses at once.
_BATCH_BYTES = 32 << 20
_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


def any_form(form: RasterForm) -> None:
    """Accept every form that can be decoded."""


def decode_tiff(data: bytes, max_pixels: int, accept: Acceptance = any_form) -> Raster:
    """Decode one TIFF file to its samples as stored: nothing is inverted, scaled or dropped.

    Raises BadImageError with the reason if the file is not acceptable, or what `accept` raises. Memory stays
    within a few times the size of the decoded slice, and time within that of its bytes, whatever the tags
    claim.
    """
    layout = read_layout(data, max_pixels, accept)
    dtype = _dtype(layout)
    plain = _one_block(data, layout, dtype)
    if plain is None:
        plain = _assemble(data, layout, dtype)
    return Raster(plain.astype(dtype.newbyteorder("="), copy=False), layout.form)


def _dtype(layout: TiffLayout) -> np.dtype[np.number[Any]]:
    size = max(1, layout.form.bits // 8)
    return np.dtype(f"{layout.byte_order}{_KIND_LETTERS[layout.form.kind]}{size}")


def _one_block(data: bytes, layout: TiffLayout, dtype: np.dtype[np.number[Any]]) -> FilePixels | None:
    """The pixels of uncompressed, interleaved strips, as in the public data set; None for other forms.

    A view of the file where the strips follow each other, else one copy.
    """
    form = layout.form
    if layout.compression != "none" or layout.tiled or layout.separate_planes or layout.predictor != 1:
        return None
    if form.bits < 8:
        return None
    ends = tuple(map(add, layout.offsets, layout.chunk_bytes))
    shape = (layout.height, layout.width, form.samples)
    if layout.offsets[1:] == ends[:-1]:
        return np.frombuffer(data, dtype, math.prod(shape), layout.offsets[0]).reshape(shape)
    stored = memoryview(data)
    strips = b"".join(stored[offset:end] for offset, end in zip(layout.offsets, ends, strict=True))
    return np.frombuffer(strips, dtype).reshape(shape)


def _assemble(data: bytes, layout: TiffLayout, dtype: np.dtype[np.number[Any]]) -> FilePixels:
    """The pixels of any form, from its decompressed chunks."""
    if layout.reversed_bits:
        # The other fill order puts the first pixel into a byte's lowest bit.
        data = data.translate(_REVERSED)
    image = np.empty((layout.height, layout.width, layout.form.samples), dtype)
    grid_rows, grid_columns = layout.grid
    # A plane of strips is one chunk as high as the image once its strips are joined.
    chunks = _chunks(data, layout) if layout.tiled else _joined(_chunks(data, layout), grid_rows)
    per_plane = grid_rows * grid_columns if layout.tiled else 1
    for number, stored in enumerate(chunks):
        plane, place = divmod(number, per_plane)
        chunk = _samples(stored, layout, dtype)
        y = place // grid_columns * layout.chunk_height
        x = place % grid_columns * layout.chunk_width
        y_end, x_end = (
            min(y + len(chunk), layout.height),
            min(x + layout.chunk_width, layout.width),
        )
        channels = slice(plane, plane + 1) if layout.separate_planes else slice(None)
        image[y:y_end, x:x_end, channels] = chunk[: y_end - y, : x_end - x]
    return image


def _joined(strips: Iterator[bytes], count: int) -> Iterator[bytes]:
    while plane := list(islice(strips, count)):
        yield b"".join(plane)


def _samples(stored: bytes, layout: TiffLayout, dtype: np.dtype[np.number[Any]]) -> FilePixels:
    """The numbers of decompressed rows: axes (rows, chunk width, chunk samples)."""
    if layout.form.bits < 8:
        packed = np.frombuffer(stored, np.uint8).reshape(-1, layout.row_bytes)
        return unpacked(packed, layout.chunk_width, layout.form.bits)[..., None]
    chunk = np.frombuffer(stored, dtype).reshape(-1, layout.chunk_width, layout.chunk_samples)
    if layout.predictor == 2:
        # The TIFF predictor subtracts the pixel to the left, modulo the depth, reals read as whole numbers.
        integer = np.dtype(f"{layout.byte_order}u{dtype.itemsize}")
        native = integer.newbyteorder("=")
        summed = np.add.accumulate(chunk.view(integer).astype(native), axis=1, dtype=native)
        chunk = summed.astype(integer).view(dtype)
    return chunk


def unpacked(rows: npt.NDArray[np.uint8], width: int, bits: int) -> npt.NDArray[np.uint8]:
    """Numbers of 1, 2 or 4 bits, the first in the highest bits of a byte: axes (H, W)."""
    places = np.arange(8 - bits, -1, -bits, dtype=np.uint8)
    numbers = (rows[..., None] >> places) & np.uint8((1 << bits) - 1)
    return numbers.reshape(len(rows), -1)[:, :width]


def _chunks(data: bytes, layout: TiffLayout) -> Iterator[bytes]:
    """Each chunk's decompressed bytes, in file order; raises BadImageError where they end too early."""
    if layout.compression in _PILLOW_CODES:
        yield from _by_pillow(data, layout)
        return
    for offset, count, size in zip(layout.offsets, layout.counts, layout.chunk_bytes, strict=True):
        if layout.compression == "none":
            yield data[offset : offset + size]
        else:
            yield _inflate(data[offset : offset + count], size)


def _inflate(stored: bytes, size: int) -> bytes:
    try:
        data = zlib.decompressobj().decompress(stored, size)
    except zlib.error as error:
        raise BadImageError(
            Reason.UNREADABLE, "the data does not decompress", str(error), "deflate data"
        ) from error
    _check_length(len(data), size)
    return data


def _check_length(size: int, expected: int) -> None:
    if size != expected:
        raise BadImageError(
            Reason.TRUNCATED, "compressed data ends too early", f"{size} bytes", f"{expected} bytes"
        )


def _by_pillow(data: bytes, layout: TiffLayout) -> Iterator[bytes]:
    """Decompress chunks, many at once, as the strips of grey TIFFs of our own: no foreign tag is read."""
    chunk_bytes = layout.chunk_height * layout.row_bytes
    together = max(1, _BATCH_BYTES // max(1, chunk_bytes))
    # A lower strip ends a plane, and so must it end a TIFF.
    per_plane = len(layout.offsets) if layout.tiled else layout.grid[0]
    for start in range(0, len(layout.offsets), per_plane):
        for first in range(start, start + per_plane, together):
            numbers = range(first, min(first + together, start + per_plane))
            pixels, end = _strips_by_pillow(data, layout, numbers), 0
            for number in numbers:
                begin, end = end, end + layout.chunk_bytes[number]
                yield pixels[begin:end]


def _strips_by_pillow(data: bytes, layout: TiffLayout, numbers: range) -> bytes:
    fax = layout.compression.startswith("fax")
    rows = sum(layout.chunk_rows[numbers.start : numbers.stop])
    counts = layout.counts[numbers.start : numbers.stop]
    starts = layout.offsets[numbers.start : numbers.stop]
    stored = b"".join(data[start : start + count] for start, count in zip(starts, counts, strict=True))
    header = _header(
        {
            256: (layout.chunk_width if fax else layout.row_bytes,),
            257: (rows,),
            258: (1 if fax else 8,),
            259: (_PILLOW_CODES[layout.compression],),
            262: (1,),
            277: (1,),
            278: (layout.chunk_height,),
            279: counts,
            292: (layout.fax_options & 1,),
        },
        tuple(int(start) for start in np.cumsum([0, *counts[:-1]])),
    )
    try:
        with Image.open(io.BytesIO(header + stored), formats=("TIFF",)) as image:
            pixels = image.tobytes()
    except (OSError, SyntaxError, ValueError) as error:
        raise BadImageError(
            Reason.UNREADABLE, "the data does not decompress", str(error), f"{layout.compression} data"
        ) from error
    _check_length(len(pixels), rows * layout.row_bytes)
    return pixels


def _header(values: dict[int, tuple[int, ...]], starts: tuple[int, ...]) -> bytes:
    """Header and directory of a TIFF whose strips follow at once, each at its start in what follows."""
    values = dict(sorted((values | {273: starts}).items()))
    blobs_at = 8 + 2 + 12 * len(values) + 4
    data_at = blobs_at + sum(4 * len(numbers) for numbers in values.values() if len(numbers) > 1)
    values[273] = tuple(data_at + start for start in starts)
    directory, blobs = b"", b""
    for tag, numbers in values.items():
        packed = struct.pack(f"<{len(numbers)}I", *numbers)
        if len(numbers) > 1:
            where = struct.pack("<I", blobs_at + len(blobs))
            blobs += packed
        else:
            where = packed
        directory += struct.pack("<HHI", tag, 4, len(numbers)) + where
    return struct.pack("<2sHIH", b"II", 42, 8, len(values)) + directory + bytes(4) + blobs


def count_values(image: SliceImage) -> Histograms:
    """Pixels of each grey value per channel of a slice (H, W, 3): int64, axes (3, 256).

    Pillow counts interleaved channels where they lie; numpy would first take them apart, at three times the
    cost.
    """
    height, width, channels = image.shape
    counts = Image.frombuffer(
        "RGB", (width, height), np.ascontiguousarray(image), "raw", "RGB", 0, 1
    ).histogram()
    return np.array(counts, np.int64).reshape(channels, 256)
