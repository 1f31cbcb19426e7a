"""Builds TIFF files byte by byte, well formed in every accepted way or wrong in one chosen way."""

from __future__ import annotations

import io
import struct
import zlib
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
from PIL import Image

Tag = tuple[int, int, tuple[int, ...]]


@dataclass(frozen=True)
class Form:
    """How `build` lays an image out; `tags` overrides or (with None) drops single tags.

    `bits` below 8 packs numbers of one channel; `extra` is tag 338, alpha for 2 and 4 channels if not given.
    """

    order: str = "<"
    compression: int = 1
    predictor: int = 1
    separate: bool = False
    rows_per_strip: int | None = None
    tile: tuple[int, int] | None = None
    photometric: int | None = None
    bits: int | None = None
    extra: tuple[int, ...] | None = None
    fill_order: int = 1
    tags: dict[int, Tag | None] = field(default_factory=dict)
    next_directory: int = 0
    magic: int = 42


_FAX = {2: "tiff_ccitt", 3: "group3", 4: "group4"}


# Pillow writes a whole file for each chunk: of thousands of equal ones only the first.
@lru_cache(maxsize=8)
def compress(data: bytes, compression: int, width: int = 0) -> bytes:
    """One chunk's bytes as the compression stores them; a fax's rows have `width` pixels."""
    if compression == 1:
        return data
    if compression in (8, 32946):
        return zlib.compress(data)
    name = {5: "tiff_lzw", 32773: "packbits", **_FAX}[compression]
    sink = io.BytesIO()
    if compression in _FAX:
        rows = len(data) // -(-width // 8)
        picture = Image.frombytes("1", (width, rows), data)
        picture.save(sink, "TIFF", compression=name, tiffinfo={278: rows})
    else:
        picture = Image.frombytes("L", (len(data), 1), data)
        picture.save(sink, "TIFF", compression=name, tiffinfo={278: 1})
    with Image.open(io.BytesIO(sink.getvalue())) as image:
        offset, count = image.tag_v2[273][0], image.tag_v2[279][0]
    return sink.getvalue()[offset : offset + count]


def chunks(pixels: np.ndarray, form: Form) -> list[bytes]:
    """The image (H, W, C) as stored strips or tiles in file order."""
    height, width, samples = pixels.shape
    bits = form.bits or 8 * pixels.dtype.itemsize
    step_rows, step_columns = form.tile or (form.rows_per_strip or height, width)
    stored = []
    for planes in [pixels[..., c : c + 1] for c in range(samples)] if form.separate else [pixels]:
        for top in range(0, height, step_rows):
            for left in range(0, width, step_columns):
                chunk = planes[top : top + step_rows, left : left + step_columns]
                if form.tile:
                    padding = [(0, step_rows - chunk.shape[0]), (0, step_columns - chunk.shape[1]), (0, 0)]
                    chunk = np.pad(chunk, padding)
                if form.predictor == 2:
                    # Differences of whole numbers, whatever the bits mean.
                    whole = np.ascontiguousarray(chunk).view(f"u{chunk.dtype.itemsize}")
                    differences = np.concatenate([whole[:, :1], whole[:, 1:] - whole[:, :-1]], axis=1)
                    chunk = differences.view(chunk.dtype)
                data = chunk.astype(chunk.dtype.newbyteorder(form.order)).tobytes()
                if bits < 8:
                    data = packed(chunk[..., 0], bits)
                stored.append(compress(data, form.compression, chunk.shape[1]))
    return [part.translate(REVERSED) for part in stored] if form.fill_order == 2 else stored


#: Bytes with their bits the other way round.
REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


def packed(plane: np.ndarray, bits: int) -> bytes:
    """Numbers of few bits, axes (H, W), each row from a whole byte on."""
    places = np.arange(bits - 1, -1, -1)
    return np.packbits(((plane[..., None] >> places) & 1).reshape(len(plane), -1), axis=1).tobytes()


def build(pixels: np.ndarray, form: Form | None = None) -> bytes:
    """A TIFF file of `pixels`, of any number type, axes (H, W, C)."""
    form = form or Form()
    height, width, samples = pixels.shape
    bits = form.bits or 8 * pixels.dtype.itemsize
    parts = chunks(pixels, form)
    offsets = list(np.cumsum([8, *(len(part) for part in parts)])[:-1])
    photometric = form.photometric if form.photometric is not None else (1 if samples < 3 else 2)
    step_rows = form.rows_per_strip or height
    tags: dict[int, Tag] = {
        256: (256, 4, (width,)),
        257: (257, 4, (height,)),
        258: (258, 3, (bits,) * samples),
        259: (259, 3, (form.compression,)),
        262: (262, 3, (photometric,)),
        277: (277, 3, (samples,)),
        284: (284, 3, (2 if form.separate else 1,)),
        317: (317, 3, (form.predictor,)),
        266: (266, 3, (form.fill_order,)),
        339: (339, 3, ({"u": 1, "i": 2, "f": 3}[pixels.dtype.kind],) * samples),
    }
    counts = tuple(len(part) for part in parts)
    extra = (2,) if form.extra is None and samples in (2, 4) else form.extra
    if extra:
        tags[338] = (338, 3, extra)
    if form.tile:
        tags |= {322: (322, 4, (form.tile[1],)), 323: (323, 4, (form.tile[0],))}
        tags |= {324: (324, 4, tuple(map(int, offsets))), 325: (325, 4, counts)}
    else:
        tags |= {278: (278, 4, (step_rows,)), 273: (273, 4, tuple(map(int, offsets))), 279: (279, 4, counts)}
    for number, tag in form.tags.items():
        if tag is None:
            tags.pop(number, None)
        else:
            tags[number] = tag
    return _file(b"".join(parts), sorted(tags.values()), form)


def _file(body: bytes, tags: list[Tag], form: Form) -> bytes:
    order = form.order
    start = 8 + len(body)
    extra_at = start + 2 + 12 * len(tags) + 4
    directory, extra = b"", b""
    for number, kind, values in tags:
        code = {1: "B", 2: "B", 3: "H", 4: "I", 5: "Q", 11: "f"}[kind]
        packed = struct.pack(f"{order}{len(values)}{code}", *values)
        if len(packed) > 4:
            where = struct.pack(order + "I", extra_at + len(extra))
            extra += packed
        else:
            where = packed.ljust(4, b"\0")
        directory += struct.pack(order + "HHI", number, kind, len(values)) + where
    header = {"<": b"II", ">": b"MM"}[order] + struct.pack(order + "HI", form.magic, start)
    tail = struct.pack(order + "H", len(tags)) + directory + struct.pack(order + "I", form.next_directory)
    return header + body + tail + extra
