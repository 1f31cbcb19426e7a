"""TIFF slices to arrays. Pillow sees only headers written here: a crafted tag never reaches it.

Accepted: 1 or 3 channels of 8 or 16 bits unsigned, with or without alpha; no compression, LZW, deflate or
packbits, with or without the horizontal predictor; strips or tiles; interleaved or separate planes; either
byte order. Alpha is dropped, grey is repeated into three channels, white-is-zero is inverted; each is noted.
"""

from __future__ import annotations

import io
import struct
import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image, TiffImagePlugin  # noqa: F401  (registers the TIFF reader)

from slicemill.core.scans.integrity import BadImageError, Reason
from slicemill.core.scans.tiff_layout import TiffLayout, read_layout
from slicemill.types import FilePixels, Histograms, SliceImage

_PILLOW_CODES = {"lzw": 5, "packbits": 32773}


@dataclass(frozen=True)
class DecodedTiff:
    """FilePixels, axes (H, W, C), uint8 or native uint16, and what decoding changed."""

    pixels: FilePixels
    notes: tuple[str, ...] = ()


def decode_tiff(data: bytes, max_pixels: int) -> DecodedTiff:
    """Decode one TIFF file; C is the file's channels without alpha.

    Raises BadImageError with the reason if the file is not acceptable. Memory stays within a few times the
    size of the decoded slice, whatever the tags claim.
    """
    layout = read_layout(data, max_pixels)
    pixels = _pixels(data, layout)
    notes = []
    if layout.samples in (2, 4):
        pixels = pixels[..., :-1]
        notes.append("alpha dropped")
    if layout.samples < 3 and layout.photometric == 0:
        pixels = np.invert(pixels)
        notes.append("white-is-zero inverted")
    if layout.bits == 16:
        notes.append("16 bits scaled to 8 by the scan's largest value")
    return DecodedTiff(pixels, tuple(notes))


def decode_slice(data: bytes, max_pixels: int) -> DecodedTiff:
    """Decode the image of a slice to three channels, axes (H, W, 3); grey is repeated and noted."""
    decoded = decode_tiff(data, max_pixels)
    if decoded.pixels.shape[-1] == 3:
        return decoded
    return DecodedTiff(
        np.repeat(decoded.pixels, 3, axis=-1), (*decoded.notes, "grey repeated in three channels")
    )


def _pixels(data: bytes, layout: TiffLayout) -> FilePixels:
    dtype: np.dtype[np.unsignedinteger[Any]]
    dtype = np.dtype(np.uint8) if layout.bits == 8 else np.dtype(layout.byte_order + "u2")
    plain = _one_block(data, layout, dtype)
    if plain is None:
        plain = _assemble(data, layout, dtype)
    return plain.astype(dtype.newbyteorder("="), copy=False)


def _one_block(
    data: bytes, layout: TiffLayout, dtype: np.dtype[np.unsignedinteger[Any]]
) -> FilePixels | None:
    """The pixels of uncompressed, interleaved strips, as in the public data set; None for other forms.

    A view of the file where the strips follow each other, else one copy.
    """
    if layout.compression != "none" or layout.tiled or layout.separate_planes or layout.predictor != 1:
        return None
    row = layout.width * layout.samples * dtype.itemsize
    sizes = [layout.chunk_rows(number) * row for number in range(len(layout.offsets))]
    ends = [offset + size for offset, size in zip(layout.offsets, sizes, strict=True)]
    shape = (layout.height, layout.width, layout.samples)
    if list(layout.offsets[1:]) == ends[:-1]:
        return np.frombuffer(data, dtype, layout.height * row // dtype.itemsize, layout.offsets[0]).reshape(
            shape
        )
    stored = memoryview(data)
    strips = b"".join(stored[offset:end] for offset, end in zip(layout.offsets, ends, strict=True))
    return np.frombuffer(strips, dtype).reshape(shape)


def _assemble(data: bytes, layout: TiffLayout, dtype: np.dtype[np.unsignedinteger[Any]]) -> FilePixels:
    image = np.empty((layout.height, layout.width, layout.samples), dtype)
    grid_rows, grid_columns = layout.grid
    for number, (offset, count) in enumerate(zip(layout.offsets, layout.counts, strict=True)):
        grid_row, grid_column = number // grid_columns % grid_rows, number % grid_columns
        plane = number // (grid_rows * grid_columns)
        rows = layout.chunk_rows(grid_row)
        shape = (rows, layout.chunk_width, layout.chunk_samples)
        stored = _decompress(data[offset : offset + count], layout.compression, shape, dtype.itemsize)
        chunk = np.frombuffer(stored, dtype).reshape(shape)
        if layout.predictor == 2:
            # The TIFF predictor subtracts the pixel to the left, modulo the depth.
            native = dtype.newbyteorder("=")
            chunk = np.add.accumulate(chunk.astype(native), axis=1, dtype=native)
        top, left = grid_row * layout.chunk_height, grid_column * layout.chunk_width
        bottom, right = min(top + rows, layout.height), min(left + layout.chunk_width, layout.width)
        channels = slice(plane, plane + 1) if layout.separate_planes else slice(None)
        image[top:bottom, left:right, channels] = chunk[: bottom - top, : right - left]
    return image


def _decompress(stored: bytes, compression: str, shape: tuple[int, int, int], sample_bytes: int) -> bytes:
    rows, row_bytes = shape[0], shape[1] * shape[2] * sample_bytes
    size = rows * row_bytes
    if compression == "none":
        return stored[:size]
    data = (
        _inflate(stored, size)
        if compression == "deflate"
        else _by_pillow(stored, compression, rows, row_bytes)
    )
    if len(data) != size:
        raise BadImageError(
            Reason.TRUNCATED, "compressed data ends too early", f"{len(data)} bytes", f"{size} bytes"
        )
    return data


def _inflate(stored: bytes, size: int) -> bytes:
    try:
        return zlib.decompressobj().decompress(stored, size)
    except zlib.error as error:
        raise BadImageError(
            Reason.UNREADABLE, "the data does not decompress", str(error), "deflate data"
        ) from error


def _by_pillow(stored: bytes, compression: str, rows: int, row_bytes: int) -> bytes:
    """Decompress one chunk as a grey 8-bit TIFF of our own, one strip, so that no foreign tag is read."""
    tags = (
        (256, 4, row_bytes),
        (257, 4, rows),
        (258, 3, 8),
        (259, 3, _PILLOW_CODES[compression]),
        (262, 3, 1),
        (273, 4, 0),
        (277, 3, 1),
        (278, 4, rows),
        (279, 4, len(stored)),
    )
    start = 8 + 2 + 12 * len(tags) + 4
    directory = b"".join(
        struct.pack("<HHII", tag, kind, 1, start if tag == 273 else value) for tag, kind, value in tags
    )
    header = struct.pack("<2sHIH", b"II", 42, 8, len(tags)) + directory + bytes(4)
    try:
        with Image.open(io.BytesIO(header + stored), formats=("TIFF",)) as image:
            return image.tobytes()
    except (OSError, SyntaxError, ValueError) as error:
        raise BadImageError(
            Reason.UNREADABLE, "the data does not decompress", str(error), f"{compression} data"
        ) from error


def count_values(image: SliceImage) -> Histograms:
    """Pixels of each grey value per channel of a slice (H, W, 3): int64, axes (3, 256).

    Pillow counts interleaved channels where they lie; numpy would first take them apart, at three times the
    cost.
    """
    height, width, channels = image.shape
    counted = Image.frombuffer(
        "RGB", (width, height), np.ascontiguousarray(image), "raw", "RGB", 0, 1
    ).histogram()
    return np.array(counted, np.int64).reshape(channels, 256)
