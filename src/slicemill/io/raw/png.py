"""PNG files to arrays. Pillow sees only header, palette and data of a file, in a PNG written here.

Read: grey, RGB and palette, with or without alpha, of 1 to 8 bits, and grey of 16 bits. Gamma, transparent
colours and texts say how to show a picture, not what it holds, and are left out.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator

import numpy as np
from PIL import Image, PngImagePlugin  # noqa: F401  (registers the PNG reader)

from slicemill.core.rasters.form import Acceptance, Colour, Extra, Raster, RasterForm
from slicemill.core.rasters.tiff_layout import check_size
from slicemill.core.scans.integrity import BadImageError, Reason
from slicemill.io.raw.tiff import any_form
from slicemill.types import FilePixels

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
#: Colour type to colour, number of samples, and accepted bits.
_TYPES: dict[int, tuple[Colour, int, tuple[int, ...]]] = {
    0: ("black_is_zero", 1, (1, 2, 4, 8, 16)),
    2: ("rgb", 3, (8,)),
    3: ("palette", 1, (1, 2, 4, 8)),
    4: ("black_is_zero", 2, (8,)),
    6: ("rgb", 4, (8,)),
}
_MOST_CHUNKS = 65_536


def decode_png(data: bytes, max_pixels: int, accept: Acceptance = any_form) -> Raster:
    """Decode one PNG file to its samples as stored: nothing is inverted, scaled or dropped.

    Raises BadImageError with the reason if the file is not acceptable, or what `accept` raises.
    """
    if data[:8] != _SIGNATURE:
        if _SIGNATURE.startswith(data[:8]):
            raise _truncated(len(data), "a PNG")
        raise BadImageError(Reason.NOT_A_PNG, "the file does not begin as a PNG", None, "\\x89PNG")
    parts: dict[bytes, list[bytes]] = {b"IHDR": [], b"PLTE": [], b"IDAT": []}
    for kind, content in _chunks(data):
        if kind in (b"acTL", b"fcTL"):
            raise BadImageError(Reason.SEVERAL_FRAMES, "the file is an animation", "an animated PNG", "one")
        if kind in parts:
            parts[kind].append(content)
    form, size = _header(parts[b"IHDR"], max_pixels)
    accept(form)
    if not parts[b"IDAT"]:
        raise _unreadable("the PNG holds no pixels")
    plain = b"".join(_chunk(kind, b"".join(content)) for kind, content in parts.items() if content)
    return Raster(_pixels(_SIGNATURE + plain + _chunk(b"IEND", b""), form, size), form)


def _unreadable(detail: str, value: object = None, expected: object = None) -> BadImageError:
    return BadImageError(Reason.UNREADABLE, detail, value, expected)


def _truncated(size: int, expected: str) -> BadImageError:
    return BadImageError(Reason.TRUNCATED, "the file ends too early", f"{size} bytes", expected)


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Kind and content of each chunk up to the end chunk, with its checksum compared."""
    at = len(_SIGNATURE)
    for _ in range(_MOST_CHUNKS):
        if at + 12 > len(data):
            raise _truncated(len(data), "an end chunk")
        (length,) = struct.unpack_from(">I", data, at)
        end = at + 12 + length
        if end > len(data):
            raise _truncated(len(data), f"at least {end} bytes")
        kind = data[at + 4 : at + 8]
        if zlib.crc32(data[at + 4 : end - 4]) != struct.unpack_from(">I", data, end - 4)[0]:
            raise _unreadable("a chunk's checksum does not fit", repr(kind), "an undamaged chunk")
        if kind == b"IEND":
            return
        yield kind, data[at + 8 : end - 4]
        at = end
    raise BadImageError(
        Reason.TOO_LARGE, "too many chunks", f"over {_MOST_CHUNKS}", f"at most {_MOST_CHUNKS}"
    )


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def _header(headers: list[bytes], max_pixels: int) -> tuple[RasterForm, tuple[int, int]]:
    """The form of the pixels, and rows and columns."""
    if len(headers) != 1 or len(headers[0]) != 13:
        raise _unreadable("the PNG has no header, or several", f"{len(headers)} headers", "one")
    width, height, bits, kind, *_ = struct.unpack(">IIBBBBB", headers[0])
    check_size(width, height, max_pixels)
    colour, samples, depths = _TYPES.get(kind, ("rgb", 0, ()))
    if bits not in depths:
        raise BadImageError(
            Reason.UNEXPECTED_DEPTH,
            "unexpected pixel depth",
            f"{bits} bits, colour type {kind}",
            "1 to 8 bits, or grey of 16 bits",
        )
    extra: tuple[Extra, ...] = ("unassociated",) if samples in (2, 4) else ()
    return RasterForm(samples, bits, "unsigned", colour, extra), (height, width)


def _pixels(data: bytes, form: RasterForm, size: tuple[int, int]) -> FilePixels:
    try:
        with Image.open(io.BytesIO(data), formats=("PNG",)) as image:
            pixels = np.asarray(image)
    except (OSError, SyntaxError, ValueError, zlib.error) as error:
        raise _unreadable("the data does not decompress", str(error), "PNG data") from error
    if form.bits == 1:
        pixels = pixels.astype(bool).astype(np.uint8)
    elif form.bits < 8 and form.colour != "palette":
        # Pillow stretches 2 and 4 bits to 8.
        pixels = pixels // np.uint8(255 // ((1 << form.bits) - 1))
    integers: FilePixels = pixels.astype(np.uint16 if form.bits == 16 else np.uint8, copy=False)
    return integers.reshape(*size, form.samples)
