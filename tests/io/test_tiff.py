from __future__ import annotations

import contextlib
import io
import struct
import tracemalloc
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from tiff_builder import Form, build

from slicemill.core.scans.integrity import BadImageError, Reason
from slicemill.io.raw.decode import decode_slice
from slicemill.io.raw.tiff import decode_tiff

LIMIT = 512 * 512


def noise(height: int = 24, width: int = 20, channels: int = 3, dtype: type = np.uint8) -> np.ndarray:
    high = np.iinfo(dtype).max
    return np.random.default_rng(0).integers(0, high, (height, width, channels), dtype=dtype, endpoint=True)


@st.composite
def images(draw: st.DrawFn) -> np.ndarray:
    shape = draw(st.tuples(st.integers(1, 40), st.integers(1, 40), st.sampled_from([1, 3])))
    dtype = draw(st.sampled_from([np.uint8, np.uint16]))
    seed = draw(st.integers(0, 2**16))
    smooth = draw(st.booleans())
    random = np.random.default_rng(seed)
    pixels = random.integers(0, np.iinfo(dtype).max, shape, dtype=dtype, endpoint=True)
    return np.sort(pixels, axis=1) if smooth else pixels


@st.composite
def forms(draw: st.DrawFn) -> Form:
    compression = draw(st.sampled_from([1, 5, 8, 32773, 32946]))
    tile = draw(
        st.none() | st.tuples(st.integers(1, 3), st.integers(1, 3)).map(lambda t: (16 * t[0], 16 * t[1]))
    )
    return Form(
        order=draw(st.sampled_from("<>")),
        compression=compression,
        predictor=draw(st.sampled_from([1, 2])) if compression in (5, 8, 32946) else 1,
        separate=draw(st.booleans()),
        rows_per_strip=None if tile else draw(st.none() | st.integers(1, 45)),
        tile=tile,
    )


@settings(max_examples=300, deadline=None)
@given(images(), forms())
def test_decoding_inverts_encoding_for_every_accepted_form(pixels: np.ndarray, form: Form) -> None:
    form = form if pixels.shape[2] == 3 else Form(**{**form.__dict__, "separate": False})
    decoded = decode_tiff(build(pixels, form), LIMIT).pixels
    assert decoded.dtype == pixels.dtype
    assert np.array_equal(decoded, pixels)


@st.composite
def deep_forms(draw: st.DrawFn) -> tuple[np.ndarray, Form]:
    kind = draw(st.sampled_from(["u1", "u2", "u4", "u8", "i1", "i2", "i4", "i8", "f2", "f4", "f8"]))
    samples = draw(st.sampled_from([1, 2])) if kind[1] != "8" else 1
    shape = (draw(st.integers(1, 24)), draw(st.integers(1, 24)), samples)
    random = np.random.default_rng(draw(st.integers(0, 2**16)))
    return random.integers(0, 200, shape).astype(kind), draw(forms())


@settings(max_examples=100, deadline=None)
@given(deep_forms())
def test_numbers_of_every_type_come_back(drawn: tuple[np.ndarray, Form]) -> None:
    pixels, form = drawn
    if pixels.shape[2] == 1:
        form = Form(**{**form.__dict__, "separate": False})
    decoded = decode_tiff(build(pixels, form), LIMIT).pixels
    assert decoded.dtype == pixels.dtype
    assert np.array_equal(decoded, pixels)


@settings(max_examples=80, deadline=None)
@given(
    st.sampled_from([1, 2, 4]),
    st.sampled_from([1, 5, 8, 32773]),
    st.tuples(st.integers(1, 40), st.integers(1, 40)),
    st.none() | st.integers(1, 9),
    st.integers(0, 2**16),
)
def test_numbers_of_few_bits_come_back(
    bits: int, compression: int, size, rows: int | None, seed: int
) -> None:
    pixels = np.random.default_rng(seed).integers(0, 1 << bits, (*size, 1), dtype=np.uint8)
    raster = decode_tiff(build(pixels, Form(bits=bits, compression=compression, rows_per_strip=rows)), LIMIT)
    assert (raster.form.bits, raster.pixels.dtype) == (bits, np.uint8)
    assert np.array_equal(raster.pixels, pixels)


@pytest.mark.parametrize("fill_order", [1, 2])
@pytest.mark.parametrize("compression", [1, 2, 3, 4])
def test_faxes_come_back(compression: int, fill_order: int) -> None:
    pixels = np.zeros((37, 45, 1), np.uint8)
    pixels[5:30, 9:40] = np.random.default_rng(0).random((25, 31, 1)) > 0.4
    form = Form(bits=1, compression=compression, rows_per_strip=10, fill_order=fill_order)
    assert np.array_equal(decode_tiff(build(pixels, form), LIMIT).pixels, pixels)


@pytest.mark.parametrize("form", [Form(rows_per_strip=1), Form(tile=(16, 16))], ids=["strips", "tiles"])
@pytest.mark.parametrize("compression", [5, 32773])
def test_one_decoder_reads_all_strips_of_a_file(monkeypatch, form: Form, compression: int) -> None:
    opened = []
    plain = Image.open
    pixels = noise(400, 200, 1)
    data = build(pixels, Form(**{**form.__dict__, "compression": compression}))
    monkeypatch.setattr(Image, "open", lambda *args, **options: opened.append(1) or plain(*args, **options))
    assert np.array_equal(decode_tiff(data, LIMIT).pixels, pixels)
    assert len(opened) == 1


def test_a_file_of_more_strips_than_bytes_pay_for_is_refused() -> None:
    for compression in (1, 5, 8, 32773):
        data = build(np.zeros((20_000, 4, 1), np.uint8), Form(rows_per_strip=1, compression=compression))
        with pytest.raises(BadImageError) as caught:
            decode_tiff(data, LIMIT)
        assert (caught.value.reason, caught.value.found) == (Reason.TOO_LARGE, "20000")


def test_a_file_of_many_padded_tiles_is_refused() -> None:
    data = build(np.zeros((1, 4096, 1), np.uint8), Form(tile=(512, 16), compression=8))
    with pytest.raises(BadImageError) as caught:
        decode_tiff(data, LIMIT)
    assert caught.value.reason is Reason.TOO_LARGE


@pytest.mark.parametrize("compression", ["raw", "tiff_lzw", "tiff_adobe_deflate", "packbits"])
def test_what_pillow_writes_is_read_as_pillow_reads_it(compression: str) -> None:
    pixels = noise()
    sink = io.BytesIO()
    Image.fromarray(pixels).save(sink, "TIFF", compression=compression)
    assert np.array_equal(decode_slice(sink.getvalue(), LIMIT).pixels, pixels)


@pytest.mark.parametrize("channels", [2, 4])
def test_alpha_is_dropped_and_noted(channels: int) -> None:
    pixels = noise(channels=channels)
    decoded = decode_slice(build(pixels), LIMIT)
    assert np.array_equal(decoded.pixels, np.broadcast_to(pixels[..., :-1], (24, 20, 3)))
    assert decoded.notes[0] == "alpha dropped"


def test_opaque_associated_alpha_has_changed_no_colour() -> None:
    pixels = noise(channels=4)
    pixels[..., 3] = 255
    assert np.array_equal(decode_slice(build(pixels, Form(extra=(1,))), LIMIT).pixels, pixels[..., :3])


@pytest.mark.parametrize(
    ("channels", "form"),
    [
        (4, Form(extra=(0,))),
        (2, Form(extra=(0,))),
        (4, Form(extra=())),
        (4, Form(extra=(999,))),
        (4, Form(extra=(0,), separate=True, order=">")),
        # Multiplied into the colours, and not opaque.
        (4, Form(extra=(1,))),
    ],
)
def test_a_sample_that_is_not_named_alpha_is_not_thrown_away(channels: int, form: Form) -> None:
    with pytest.raises(BadImageError) as caught:
        decode_slice(build(noise(channels=channels), form), LIMIT)
    assert caught.value.reason is Reason.UNKNOWN_SAMPLE


def described(text: str, order: str = "<", zero: bytes = b"\0") -> bytes:
    description = tuple(text.encode() + zero)
    return build(GREY, Form(order=order, tags={270: (270, 2, description)}))


STACKS = (
    "ImageJ=1.53t\nimages=20\nslices=20\nloop=false\n",
    "ImageJ=1.53t\nimages=6\nchannels=3\nslices=2\nhyperstack=true\n",
    "ImageJ=1.47\nframes=4\n",
    "ImageJ=1.53t\r\nimages=20\r\nslices=20\r\n",
    '{"shape": [20, 24, 20], "truncated": true}',
)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("text", STACKS)
def test_a_stack_in_one_directory_holds_several_frames(text: str, order: str) -> None:
    with pytest.raises(BadImageError) as caught:
        decode_slice(described(text, order), LIMIT)
    assert caught.value.reason is Reason.SEVERAL_FRAMES


def test_an_image_depth_holds_several_frames() -> None:
    with pytest.raises(BadImageError) as caught:
        decode_slice(build(GREY, Form(tags={32997: (32997, 4, (5,))})), LIMIT)
    assert caught.value.reason is Reason.SEVERAL_FRAMES


@pytest.mark.parametrize(
    "text",
    [
        "ImageJ=1.53t\nimages=1\n",
        "ImageJ=1.53t\nunit=mm\nspacing=3.0\n",
        "images=20",
        '{"shape": [24, 20]}',
        '{"shape": [24, 20, 1], "truncated": true}',
        '{"shape": "truncated": true}',
        "",
    ],
)
def test_a_description_of_one_image_is_of_no_account(text: str) -> None:
    assert decode_slice(described(text), LIMIT).pixels.shape == (24, 20, 3)


def test_grey_is_repeated_and_white_is_zero_inverted() -> None:
    pixels = noise(channels=1)
    decoded = decode_slice(build(pixels, Form(photometric=0)), LIMIT)
    assert np.array_equal(decoded.pixels, np.repeat(255 - pixels, 3, axis=2))
    assert decoded.notes == ("white-is-zero inverted", "grey repeated in three channels")


GREY = noise(channels=1)
RGB = noise()
GOOD = build(RGB)


def _tags(**tags: tuple[int, tuple[int, ...]] | None) -> Form:
    return Form(tags={int(name[1:]): value and (int(name[1:]), *value) for name, value in tags.items()})


def _patched(data: bytes, at: int, patch: bytes) -> bytes:
    return data[:at] + patch + data[at + len(patch) :]


def _palette() -> bytes:
    sink = io.BytesIO()
    Image.fromarray(RGB).quantize(16).save(sink, "TIFF")
    return sink.getvalue()


def _frames() -> bytes:
    sink = io.BytesIO()
    image = Image.fromarray(RGB)
    image.save(sink, "TIFF", save_all=True, append_images=[image])
    return sink.getvalue()


def _jpeg_in_tiff() -> bytes:
    sink = io.BytesIO()
    Image.fromarray(RGB).save(sink, "TIFF", compression="jpeg")
    return sink.getvalue()


def _png() -> bytes:
    sink = io.BytesIO()
    Image.fromarray(RGB).save(sink, "PNG")
    return sink.getvalue()


SHARED = Form(rows_per_strip=1, compression=8, tags={273: (273, 4, (8,) * 24), 279: (279, 4, (900,) * 24)})
BOMB = zlib.compress(bytes(64 << 20), 9)

DAMAGE: dict[str, tuple[bytes, Reason]] = {
    "nothing at all": (b"", Reason.TRUNCATED),
    "one byte": (b"I", Reason.TRUNCATED),
    "byte order only": (b"II", Reason.TRUNCATED),
    "header only": (GOOD[:8], Reason.TRUNCATED),
    "half the pixels": (GOOD[:800], Reason.TRUNCATED),
    "directory cut": (GOOD[: 8 + RGB.nbytes + 20], Reason.TRUNCATED),
    "tag values cut": (GOOD[:-4], Reason.TRUNCATED),
    "a PNG": (_png(), Reason.NOT_A_TIFF),
    "more extra samples than samples": (build(RGB, _tags(t338=(3, (0,)))), Reason.UNREADABLE),
    "a stencil": (build(GREY, Form(photometric=4)), Reason.UNEXPECTED_SHAPE),
    "a fax": (build(GREY // 128, Form(bits=1, compression=4)), Reason.UNEXPECTED_DEPTH),
    "complex numbers": (build(GREY.astype(np.uint32), _tags(t339=(3, (5,)))), Reason.UNEXPECTED_DEPTH),
    "a text": (b"patient,dice\nA,0.9\n", Reason.NOT_A_TIFF),
    "zeros": (bytes(4096), Reason.NOT_A_TIFF),
    "an HTML error page": (b"<html>503 Slow Down</html>", Reason.NOT_A_TIFF),
    "wrong magic": (build(RGB, Form(magic=41)), Reason.NOT_A_TIFF),
    "mixed byte order marks": (b"IM" + GOOD[2:], Reason.NOT_A_TIFF),
    "BigTIFF": (build(RGB, Form(magic=43)), Reason.UNREADABLE),
    "directory inside the header": (_patched(GOOD, 4, struct.pack("<I", 4)), Reason.UNREADABLE),
    "directory beyond the end": (_patched(GOOD, 4, struct.pack("<I", 2**31)), Reason.TRUNCATED),
    "no tags": (b"II*\0\x08\0\0\0\0\0\0\0\0\0", Reason.UNREADABLE),
    "absurd number of tags": (b"II*\0\x08\0\0\0\xff\xff" + bytes(100), Reason.UNREADABLE),
    "two frames": (_frames(), Reason.SEVERAL_FRAMES),
    "directory that points at itself": (build(RGB, Form(next_directory=8)), Reason.SEVERAL_FRAMES),
    "no width": (build(RGB, _tags(t256=None)), Reason.UNREADABLE),
    "no height": (build(RGB, _tags(t257=None)), Reason.UNREADABLE),
    "no offsets": (build(RGB, _tags(t273=None)), Reason.UNREADABLE),
    "no counts": (build(RGB, _tags(t279=None)), Reason.UNREADABLE),
    "width zero": (build(RGB, _tags(t256=(4, (0,)))), Reason.UNEXPECTED_SHAPE),
    "height zero": (build(RGB, _tags(t257=(4, (0,)))), Reason.UNEXPECTED_SHAPE),
    "gigapixel claim": (build(RGB, _tags(t256=(4, (65535,)), t257=(4, (65535,)))), Reason.TOO_LARGE),
    "width of four billion": (build(RGB, _tags(t256=(4, (2**32 - 1,)))), Reason.TOO_LARGE),
    "taller than its data": (build(RGB, _tags(t257=(4, (48,)), t278=(4, (48,)))), Reason.TRUNCATED),
    "five channels": (build(RGB, _tags(t277=(3, (5,)))), Reason.UNEXPECTED_SHAPE),
    "no channels": (build(RGB, _tags(t277=(3, (0,)))), Reason.UNEXPECTED_SHAPE),
    "colour palette": (_palette(), Reason.UNEXPECTED_SHAPE),
    "CMYK": (build(noise(channels=4), Form(photometric=5)), Reason.UNEXPECTED_SHAPE),
    "YCbCr": (build(RGB, Form(photometric=6)), Reason.UNEXPECTED_SHAPE),
    "one bit": (build(GREY, _tags(t258=(3, (1,)))), Reason.UNEXPECTED_DEPTH),
    "twelve bits": (build(GREY, _tags(t258=(3, (12,)))), Reason.UNEXPECTED_DEPTH),
    "32 bits": (build(GREY, _tags(t258=(3, (32,)))), Reason.UNEXPECTED_DEPTH),
    "depths that differ": (build(RGB, _tags(t258=(3, (8, 16, 8)))), Reason.UNEXPECTED_DEPTH),
    "floats": (build(noise(dtype=np.uint16), _tags(t339=(3, (3, 3, 3)))), Reason.UNEXPECTED_DEPTH),
    "signed": (build(RGB, _tags(t339=(3, (2, 2, 2)))), Reason.UNEXPECTED_DEPTH),
    "JPEG inside": (_jpeg_in_tiff(), Reason.UNREADABLE),
    "unknown compression": (build(RGB, _tags(t259=(3, (34712,)))), Reason.UNREADABLE),
    "fax compression of eight bits": (build(GREY, _tags(t259=(3, (4,)))), Reason.UNREADABLE),
    "floating-point predictor": (build(RGB, _tags(t317=(3, (3,)))), Reason.UNREADABLE),
    "reversed bits": (build(RGB, _tags(t266=(3, (2,)))), Reason.UNREADABLE),
    "turned": (build(RGB, _tags(t274=(3, (6,)))), Reason.UNREADABLE),
    "planes of a third kind": (build(RGB, _tags(t284=(3, (3,)))), Reason.UNREADABLE),
    "width as a float": (build(RGB, _tags(t256=(11, (20,)))), Reason.UNREADABLE),
    "too few strips": (build(RGB, _tags(t278=(4, (4,)))), Reason.UNREADABLE),
    "strips of no rows": (build(RGB, _tags(t278=(4, (0,)))), Reason.UNREADABLE),
    "tiles of no columns": (build(RGB, Form(tile=(16, 16), tags={322: (322, 4, (0,))})), Reason.UNREADABLE),
    "tile of a gigapixel": (
        build(RGB, Form(tile=(16, 16), tags={322: (322, 4, (65536,)), 323: (323, 4, (65536,))})),
        Reason.TOO_LARGE,
    ),
    "strip beyond the end": (build(RGB, _tags(t273=(4, (10**6,)))), Reason.TRUNCATED),
    "strip shorter than its rows": (build(RGB, _tags(t279=(4, (100,)))), Reason.TRUNCATED),
    "strips that share bytes": (build(RGB, SHARED), Reason.UNREADABLE),
    "deflate garbage": (build(RGB, _tags(t259=(3, (8,)))), Reason.UNREADABLE),
    "LZW cut short": (build(RGB, Form(compression=5, tags={279: (279, 4, (60,))})), Reason.UNREADABLE),
    "deflate cut short": (build(RGB, Form(compression=8, tags={279: (279, 4, (60,))})), Reason.TRUNCATED),
}  # fmt: skip


@pytest.mark.parametrize("name", DAMAGE)
def test_damage_is_refused_with_its_reason(name: str) -> None:
    data, reason = DAMAGE[name]
    with pytest.raises(BadImageError) as caught:
        decode_slice(data, LIMIT)
    assert caught.value.reason is reason, caught.value.detail


def test_the_corpus_holds_at_least_forty_kinds_of_damage() -> None:
    assert len(DAMAGE) >= 40


def test_a_decompression_bomb_costs_no_more_than_the_slice_it_claims() -> None:
    form = Form(tags={259: (259, 3, (8,)), 279: (279, 4, (len(BOMB),))})
    data = build(RGB, form)
    start = data.index(RGB.tobytes())
    bomb = data[:start] + BOMB
    directory = data[start + RGB.nbytes :]
    shift = len(BOMB) - RGB.nbytes
    moved = struct.pack("<I", struct.unpack_from("<I", data, 4)[0] + shift)
    bomb = _patched(bomb + _shifted(directory, shift), 4, moved)
    tracemalloc.start()
    decode_slice(bomb, LIMIT)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1 << 20


def _shifted(directory: bytes, shift: int) -> bytes:
    """The directory moved by `shift` bytes: offsets of values that lie behind it follow."""
    moved = bytearray(directory)
    for entry in range(2, 2 + 12 * struct.unpack_from("<H", directory)[0], 12):
        _, kind, count = struct.unpack_from("<HHI", directory, entry)
        if count * {3: 2, 4: 4}[kind] > 4:
            (where,) = struct.unpack_from("<I", directory, entry + 8)
            struct.pack_into("<I", moved, entry + 8, where + shift)
    return bytes(moved)


@settings(max_examples=400, deadline=2000)
@given(forms(), st.data())
def test_flipped_bytes_never_crash_nor_grow(form: Form, data: st.DataObject) -> None:
    valid = bytearray(build(noise(12, 10), form))
    places = st.integers(0, len(valid) - 1)
    for place in data.draw(st.lists(places, min_size=1, max_size=6)):
        valid[place] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(valid)))
    # Anything but a decoded slice or a BadImageError fails the test.
    with contextlib.suppress(BadImageError):
        decoded = decode_slice(bytes(valid[: cut or None]), LIMIT)
        assert decoded.pixels.shape[0] * decoded.pixels.shape[1] <= LIMIT
