"""PNG files come back as they were stored, and damage is refused with its reason."""

from __future__ import annotations

import contextlib
import io
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from tiff_builder import build

from slicemill.core.scans.integrity import BadImageError, Reason
from slicemill.io.raw.decode import decode_slice
from slicemill.io.raw.png import decode_png

LIMIT = 512 * 512
NAME = "file:///scan/scan_1.png"


def noise(*shape: int, kind: type = np.uint8) -> np.ndarray:
    return np.random.default_rng(0).integers(0, np.iinfo(kind).max, shape, dtype=kind, endpoint=True)


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(pixels: np.ndarray, kind: int, bits: int = 8, *extra: bytes, interlaced: int = 0) -> bytes:
    """A PNG of unfiltered rows, by hand: `pixels` are the rows' bytes, axes (H, bytes)."""
    samples = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[kind]
    width = pixels.shape[1] * 8 // (bits * samples)
    header = struct.pack(">IIBBBBB", width, len(pixels), bits, kind, 0, 0, interlaced)
    rows = b"".join(b"\0" + row.tobytes() for row in pixels)
    parts = [chunk(b"IHDR", header), *extra, chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from([(0, 1), (2, 3), (4, 2), (6, 4)]),
    st.tuples(st.integers(1, 30), st.integers(1, 30)),
    st.booleans(),
)
def test_eight_bits_come_back(form: tuple[int, int], size: tuple[int, int], by_pillow: bool) -> None:
    kind, samples = form
    pixels = noise(*size, samples)
    data = png(pixels.reshape(size[0], -1), kind)
    if by_pillow:
        sink = io.BytesIO()
        Image.fromarray(pixels.squeeze(-1) if samples == 1 else pixels).save(sink, "PNG")
        data = sink.getvalue()
    assert np.array_equal(decode_png(data, LIMIT).pixels, pixels)


@pytest.mark.parametrize("bits", [1, 2, 4])
@pytest.mark.parametrize("kind", [0, 3])
def test_few_bits_come_back_as_they_are_stored(kind: int, bits: int) -> None:
    rows = noise(9, 6)
    palette = chunk(b"PLTE", noise(16 * 3).tobytes()) if kind == 3 else b""
    raster = decode_png(png(rows, kind, bits, palette), LIMIT)
    places = np.arange(8 - bits, -1, -bits)
    expected = (rows[..., None] >> places & ((1 << bits) - 1)).reshape(9, -1, 1)
    assert raster.form.bits == bits
    assert np.array_equal(raster.pixels, expected)


def test_sixteen_bits_of_grey_come_back() -> None:
    pixels = noise(8, 10, kind=np.uint16)
    data = png(pixels.astype(">u2").view(np.uint8), 0, 16)
    assert np.array_equal(decode_png(data, LIMIT).pixels[..., 0], pixels)


def test_texts_gamma_and_transparent_colours_are_left_out() -> None:
    pixels = noise(8, 30)
    extra = [
        chunk(b"gAMA", struct.pack(">I", 1)),
        chunk(b"tRNS", bytes(6)),
        chunk(b"zTXt", b"a\0\0" + b"x" * 99),
    ]
    assert np.array_equal(decode_png(png(pixels, 2, 8, *extra), LIMIT).pixels, pixels.reshape(8, 10, 3))


def test_a_slice_may_be_a_png() -> None:
    pixels = noise(8, 30)
    image = decode_slice(png(pixels, 2), LIMIT, NAME)
    assert np.array_equal(image.pixels, pixels.reshape(8, 10, 3))
    assert image.notes == ()


GOOD = png(noise(8, 30), 2)

DAMAGE = {
    "nothing at all": (b"", Reason.TRUNCATED),
    "half the signature": (GOOD[:5], Reason.TRUNCATED),
    "header only": (GOOD[:33], Reason.TRUNCATED),
    "cut": (GOOD[:-30], Reason.TRUNCATED),
    "no end": (GOOD[:-12], Reason.TRUNCATED),
    "a TIFF": (build(noise(8, 10, 3)), Reason.NOT_A_PNG),
    "an HTML error page": (b"<html>503 Slow Down</html>", Reason.NOT_A_PNG),
    "a flipped byte": (GOOD[:60] + bytes([GOOD[60] ^ 1]) + GOOD[61:], Reason.UNREADABLE),
    "no header": (GOOD[:8] + GOOD[33:], Reason.UNREADABLE),
    "no pixels": (GOOD[:33] + chunk(b"IEND", b""), Reason.UNREADABLE),
    "an animation": (png(noise(8, 30), 2, 8, chunk(b"acTL", bytes(8))), Reason.SEVERAL_FRAMES),
    "a gigapixel claim": (
        GOOD[:8] + chunk(b"IHDR", struct.pack(">IIBBBBB", 65535, 65535, 8, 2, 0, 0, 0)) + GOOD[33:],
        Reason.TOO_LARGE,
    ),
    "no columns": (
        GOOD[:8] + chunk(b"IHDR", struct.pack(">IIBBBBB", 0, 8, 8, 2, 0, 0, 0)) + GOOD[33:],
        Reason.UNEXPECTED_SHAPE,
    ),
    "a colour type of nobody's": (
        GOOD[:8] + chunk(b"IHDR", struct.pack(">IIBBBBB", 10, 8, 8, 5, 0, 0, 0)) + GOOD[33:],
        Reason.UNEXPECTED_DEPTH,
    ),
    "16 bits of colour": (png(noise(8, 60), 2, 16), Reason.UNEXPECTED_DEPTH),
    "one bit": (png(noise(8, 2), 0, 1), Reason.UNEXPECTED_DEPTH),
    "a palette": (png(noise(8, 10), 3, 8, chunk(b"PLTE", bytes(768))), Reason.UNEXPECTED_SHAPE),
    "garbage for pixels": (GOOD[:33] + chunk(b"IDAT", b"garbage") + chunk(b"IEND", b""), Reason.UNREADABLE),
}  # fmt: skip


@pytest.mark.parametrize("name", DAMAGE)
def test_damage_is_refused_with_its_reason(name: str) -> None:
    data, reason = DAMAGE[name]
    with pytest.raises(BadImageError) as caught:
        decode_slice(data, LIMIT, NAME)
    assert caught.value.reason is reason, caught.value.detail


@settings(max_examples=150, deadline=2000)
@given(st.data())
def test_flipped_bytes_never_crash(data: st.DataObject) -> None:
    parts = [bytearray(noise(8, 30).tobytes()), bytearray(zlib.compress(bytes(8 * 31)))]
    content = data.draw(st.sampled_from(parts))
    for place in data.draw(st.lists(st.integers(0, len(content) - 1), max_size=6)):
        content[place] = data.draw(st.integers(0, 255))
    header = struct.pack(">IIBBBBB", 10, 8, 8, *data.draw(st.tuples(*[st.integers(0, 6)] * 4)))
    file = GOOD[:8] + chunk(b"IHDR", header) + chunk(b"IDAT", bytes(content)) + chunk(b"IEND", b"")
    with contextlib.suppress(BadImageError):
        assert decode_png(file, LIMIT).pixels.shape[:2] == (8, 10)
