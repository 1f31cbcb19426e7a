"""The layout that a TIFF's tags claim, read and checked before any decoder is given a byte.

Source: TIFF Revision 6.0 (Adobe, 1992), sections 2, 8, 13, 14, 15 and 18. Only the first image file
directory is read, every count is bounded by the size of the file, and nothing is allocated from a tag.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from slicemill.core.scans.integrity import BadImageError, Reason

#: TIFF compression numbers that are accepted, by name.
COMPRESSIONS = {1: "none", 5: "lzw", 8: "deflate", 32773: "packbits", 32946: "deflate"}

_TYPE_CODES = {1: "B", 3: "H", 4: "I"}
_MOST_TAGS = 512

(_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC, _OFFSETS, _ORIENTATION, _SAMPLES) = (
    256, 257, 258, 259, 262, 273, 274, 277
)  # fmt: skip
(_ROWS_PER_STRIP, _COUNTS, _PLANAR, _PREDICTOR, _FILL_ORDER) = (278, 279, 284, 317, 266)
(_TILE_WIDTH, _TILE_HEIGHT, _TILE_OFFSETS, _TILE_COUNTS) = (322, 323, 324, 325)
_SAMPLE_FORMAT = 339
_READ = frozenset(
    (_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC, _OFFSETS, _ORIENTATION, _SAMPLES, _ROWS_PER_STRIP,
     _COUNTS, _PLANAR, _PREDICTOR, _FILL_ORDER, _TILE_WIDTH, _TILE_HEIGHT, _TILE_OFFSETS, _TILE_COUNTS,
     _SAMPLE_FORMAT)
)  # fmt: skip


@dataclass(frozen=True)
class TiffLayout:
    """Where a TIFF keeps its pixels. A chunk is a strip or a tile, (rows, columns) of one or all samples."""

    byte_order: str  #: "<" or ">", as in struct and numpy
    height: int
    width: int
    samples: int
    bits: int
    photometric: int
    compression: str
    predictor: int
    separate_planes: bool
    tiled: bool
    chunk_height: int
    chunk_width: int
    offsets: tuple[int, ...]
    counts: tuple[int, ...]

    @property
    def chunk_samples(self) -> int:
        """Samples that one chunk interleaves."""
        return 1 if self.separate_planes else self.samples

    @property
    def planes(self) -> int:
        """Times that the grid of chunks is repeated."""
        return self.samples if self.separate_planes else 1

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of chunks in one plane."""
        return -(-self.height // self.chunk_height), -(-self.width // self.chunk_width)

    def chunk_rows(self, grid_row: int) -> int:
        """Rows that a chunk stores: the last strip is cut, the last tile is padded."""
        if self.tiled:
            return self.chunk_height
        return min(self.chunk_height, self.height - grid_row * self.chunk_height)


def _unreadable(detail: str, found: object = None, expected: object = None) -> BadImageError:
    return BadImageError(Reason.UNREADABLE, detail, found, expected)


def _truncated(found: int, expected: int) -> BadImageError:
    return BadImageError(
        Reason.TRUNCATED, "the file ends too early", f"{found} bytes", f"at least {expected} bytes"
    )


def _directory(data: bytes) -> tuple[str, dict[int, tuple[int, ...]]]:
    """Byte order, and the values of the tags that slicemill reads."""
    order = {b"II": "<", b"MM": ">"}.get(data[:2])
    if order is None and not ((len(data) < 2 and b"II".startswith(data[:2])) or b"MM".startswith(data[:2])):
        raise BadImageError(Reason.NOT_A_TIFF, "the file does not begin as a TIFF", None, "II*\\0 or MM\\0*")
    if order is None or len(data) < 8:
        raise _truncated(len(data), 8)
    magic, start = struct.unpack_from(order + "HI", data, 2)
    if magic == 43:
        raise _unreadable("the file is a BigTIFF", "BigTIFF", "classic TIFF")
    if magic != 42:
        raise BadImageError(
            Reason.NOT_A_TIFF, "the file does not begin as a TIFF", f"version {magic}", "version 42"
        )
    if start < 8:
        raise _unreadable("the directory lies inside the header", f"offset {start}", "8 or more")
    if start + 2 > len(data):
        raise _truncated(len(data), start + 2)
    (entries,) = struct.unpack_from(order + "H", data, start)
    end = start + 2 + 12 * entries
    if not 0 < entries <= _MOST_TAGS:
        raise _unreadable("the directory's size is absurd", f"{entries} tags", f"1 to {_MOST_TAGS}")
    if end > len(data):
        raise _truncated(len(data), end + 4)
    # Some writers leave out the last four bytes of a last directory.
    if end + 4 <= len(data) and struct.unpack_from(order + "I", data, end)[0]:
        raise BadImageError(
            Reason.SEVERAL_FRAMES, "the file holds several images", "a second directory", "one"
        )
    return order, dict(_tags(data, order, start + 2, entries))


def _tags(data: bytes, order: str, start: int, entries: int) -> list[tuple[int, tuple[int, ...]]]:
    found = []
    for entry in range(start, start + 12 * entries, 12):
        tag, kind, count = struct.unpack_from(order + "HHI", data, entry)
        if tag not in _READ:
            continue
        code = _TYPE_CODES.get(kind)
        if code is None or count == 0:
            raise _unreadable(
                f"tag {tag} has no whole numbers", f"type {kind}, count {count}", "types 1, 3, 4"
            )
        size = count * struct.calcsize("=" + code)
        where = entry + 8 if size <= 4 else struct.unpack_from(order + "I", data, entry + 8)[0]
        if where + size > len(data):
            raise _truncated(len(data), where + size)
        found.append((tag, struct.unpack_from(f"{order}{count}{code}", data, where)))
    return found


def read_layout(data: bytes, max_pixels: int) -> TiffLayout:
    """Read the layout of a TIFF file's bytes.

    Raises BadImageError with the reason if the tags are missing, contradict each other, exceed
    `max_pixels`, point outside the file, or describe a form that is not accepted.
    """
    order, tags = _directory(data)

    def one(tag: int, default: int | None = None) -> int:
        values = tags.get(tag)
        if values is None:
            if default is None:
                raise _unreadable(f"tag {tag} is missing")
            return default
        return values[0]

    width, height, samples = one(_WIDTH), one(_HEIGHT), one(_SAMPLES, 1)
    _check_form(tags, width, height, samples, max_pixels)
    tiled = _TILE_WIDTH in tags
    layout = TiffLayout(
        byte_order=order,
        height=height,
        width=width,
        samples=samples,
        bits=one(_BITS, 1),
        photometric=one(_PHOTOMETRIC, 1 if samples < 3 else 2),
        compression=COMPRESSIONS[one(_COMPRESSION, 1)],
        predictor=one(_PREDICTOR, 1),
        separate_planes=samples > 1 and one(_PLANAR, 1) == 2,
        tiled=tiled,
        chunk_height=one(_TILE_HEIGHT) if tiled else min(one(_ROWS_PER_STRIP, height), height),
        chunk_width=one(_TILE_WIDTH) if tiled else width,
        offsets=tags.get(_TILE_OFFSETS if tiled else _OFFSETS, ()),
        counts=tags.get(_TILE_COUNTS if tiled else _COUNTS, ()),
    )
    _check_chunks(layout, len(data), max_pixels)
    return layout


def _check_form(
    tags: dict[int, tuple[int, ...]], width: int, height: int, samples: int, max_pixels: int
) -> None:
    if width < 1 or height < 1:
        raise BadImageError(
            Reason.UNEXPECTED_SHAPE, "the image has no pixels", f"{height} x {width}", "1 x 1 or more"
        )
    if width * height > max_pixels:
        raise BadImageError(
            Reason.TOO_LARGE, "the image is too large", f"{height} x {width}", f"{max_pixels} pixels"
        )
    if samples not in (1, 2, 3, 4):
        raise BadImageError(
            Reason.UNEXPECTED_SHAPE, "unexpected number of channels", samples, "1 or 3, with or without alpha"
        )
    bits, formats = set(tags.get(_BITS, (1,))), set(tags.get(_SAMPLE_FORMAT, (1,)))
    if bits not in ({8}, {16}) or not formats <= {1, 4}:
        names = {1: "unsigned", 2: "signed", 3: "float"}
        kinds = "/".join(names.get(number, "undefined") for number in sorted(formats))
        raise BadImageError(
            Reason.UNEXPECTED_DEPTH,
            "unexpected pixel depth",
            f"{sorted(bits)} bits {kinds}",
            "8 or 16 bits unsigned",
        )
    photometric = tags.get(_PHOTOMETRIC, (1 if samples < 3 else 2,))[0]
    if photometric not in ((0, 1) if samples < 3 else (2,)):
        raise BadImageError(
            Reason.UNEXPECTED_SHAPE,
            "unexpected colour model",
            f"photometric {photometric} with {samples} channels",
            "grey or RGB",
        )
    if tags.get(_COMPRESSION, (1,))[0] not in COMPRESSIONS:
        raise _unreadable(
            "the compression is not accepted", tags[_COMPRESSION][0], "none, LZW, deflate or packbits"
        )
    for tag, name, accepted in (
        (_PREDICTOR, "predictor", (1, 2)),
        (_FILL_ORDER, "fill order", (1,)),
        (_PLANAR, "planar configuration", (1, 2)),
        (_ORIENTATION, "orientation", (1,)),
    ):
        if tags.get(tag, (1,))[0] not in accepted:
            raise _unreadable(f"the {name} is not accepted", tags[tag][0], " or ".join(map(str, accepted)))


def _check_chunks(layout: TiffLayout, size: int, max_pixels: int) -> None:
    if layout.chunk_height < 1 or layout.chunk_width < 1:
        raise _unreadable("a strip or tile has no pixels", f"{layout.chunk_height} x {layout.chunk_width}")
    if layout.chunk_height * layout.chunk_width > max_pixels:
        raise BadImageError(
            Reason.TOO_LARGE,
            "a tile is too large",
            f"{layout.chunk_height} x {layout.chunk_width}",
            f"{max_pixels} pixels",
        )
    rows, columns = layout.grid
    wanted = rows * columns * layout.planes
    if not len(layout.offsets) == len(layout.counts) == wanted:
        raise _unreadable(
            "strips or tiles are missing",
            f"{len(layout.offsets)} offsets, {len(layout.counts)} counts",
            wanted,
        )
    sample_bytes = layout.bits // 8
    for number, (offset, count) in enumerate(zip(layout.offsets, layout.counts, strict=True)):
        if offset + count > size:
            raise _truncated(size, offset + count)
        stored = (
            layout.chunk_rows(number // columns % rows)
            * layout.chunk_width
            * layout.chunk_samples
            * sample_bytes
        )
        if layout.compression == "none" and count < stored:
            raise BadImageError(
                Reason.TRUNCATED, "a strip or tile is too short", f"{count} bytes", f"{stored} bytes"
            )
    # Chunks that share bytes let a small file claim to be a large one.
    if sum(layout.counts) > size:
        raise _unreadable(
            "strips or tiles overlap", f"{sum(layout.counts)} bytes of chunks", f"at most {size} bytes"
        )
