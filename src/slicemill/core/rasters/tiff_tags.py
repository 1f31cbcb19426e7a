"""The tags of a TIFF's one directory, each bounded by the size of the file.

Source: TIFF Revision 6.0 (Adobe, 1992), sections 2 and 8. A stack that ImageJ keeps in one directory is told
by its description (ImageJ, `ij.io.TiffEncoder`); tifffile's is told likewise.
"""

from __future__ import annotations

import json
import re
import struct
from typing import NamedTuple

from slicemill.core.scans.integrity import BadImageError, Reason

#: Strips or tiles of one file: what they cost is paid per piece, not per byte.
MOST_CHUNKS = 16_384

#: Code and bytes of the types of whole numbers.
_TYPE_CODES = {1: ("B", 1), 3: ("H", 2), 4: ("I", 4)}
_SINGLE = {
    order: {kind: struct.Struct(order + code).unpack_from for kind, (code, _) in _TYPE_CODES.items()}
    for order in "<>"
}
_TEXT_TYPES = (1, 2, 7)
_MOST_TAGS = 512
#: Characters of a description that are looked at; what says that there are more images comes first.
_DESCRIPTION = 4096


class Tag:
    """Numbers of the tags that slicemill reads: plain ones, for they are looked up in every file."""

    WIDTH = 256
    HEIGHT = 257
    BITS = 258
    COMPRESSION = 259
    PHOTOMETRIC = 262
    FILL_ORDER = 266
    OFFSETS = 273
    ORIENTATION = 274
    SAMPLES = 277
    ROWS_PER_STRIP = 278
    COUNTS = 279
    PLANAR = 284
    FAX_OPTIONS = 292
    PREDICTOR = 317
    TILE_WIDTH = 322
    TILE_HEIGHT = 323
    TILE_OFFSETS = 324
    TILE_COUNTS = 325
    EXTRA_SAMPLES = 338
    SAMPLE_FORMAT = 339
    IMAGE_DEPTH = 32997


_DESCRIPTION_TAG = 270
_NUMBERS = frozenset(number for number in vars(Tag).values() if isinstance(number, int))
_LONG = (Tag.OFFSETS, Tag.COUNTS, Tag.TILE_OFFSETS, Tag.TILE_COUNTS)
#: Values of any other tag that are read: none is ever asked for more.
_MOST_VALUES = 64

Tags = dict[int, tuple[int, ...]]


class _Entry(NamedTuple):
    """One entry of a directory: how many values it has, and these, or where they are."""

    tag: int
    kind: int
    values: int
    content: bytes


def unreadable(detail: str, value: object = None, expected: object = None) -> BadImageError:
    """The error of tags that contradict each other or are not accepted."""
    return BadImageError(Reason.UNREADABLE, detail, value, expected)


def truncated(size: int, expected: int) -> BadImageError:
    """The error of a file that is shorter than its tags promise."""
    return BadImageError(
        Reason.TRUNCATED, "the file ends too early", f"{size} bytes", f"at least {expected} bytes"
    )


def read_tags(data: bytes) -> tuple[str, Tags]:
    """Byte order, "<" or ">", and the values of the tags that slicemill reads.

    Raises BadImageError if the file is not a TIFF, its directory is damaged, or it holds several images.
    """
    order, start, entries = _directory(data)
    tags: Tags = {}
    description = b""
    single = _SINGLE[order]
    for tag, kind, count, value in struct.iter_unpack(order + "HHI4s", data[start : start + 12 * entries]):
        if tag in _NUMBERS:
            if tag in tags:
                raise unreadable(f"tag {tag} is there twice")
            if count == 1 and kind in single:
                tags[tag] = single[kind](value)
            else:
                tags[tag] = _numbers(data, order, _Entry(tag, kind, count, value))
        elif tag == _DESCRIPTION_TAG and kind in _TEXT_TYPES:
            entry = _Entry(tag, kind, count, value)
            description = _value(data, order, entry, min(count, _DESCRIPTION), 1)
    images = max(_described_images(description.decode("latin-1")), *tags.get(Tag.IMAGE_DEPTH, (1,)))
    if images > 1:
        raise BadImageError(
            Reason.SEVERAL_FRAMES, "the file holds several images in one directory", f"{images} images", "one"
        )
    return order, tags


def _directory(data: bytes) -> tuple[str, int, int]:
    """Byte order, offset of the one directory's first entry, and their number."""
    order = {b"II": "<", b"MM": ">"}.get(data[:2])
    if order is None and not ((len(data) < 2 and b"II".startswith(data[:2])) or b"MM".startswith(data[:2])):
        raise BadImageError(Reason.NOT_A_TIFF, "the file does not begin as a TIFF", None, "II*\\0 or MM\\0*")
    if order is None or len(data) < 8:
        raise truncated(len(data), 8)
    magic, start = struct.unpack_from(order + "HI", data, 2)
    if magic == 43:
        raise unreadable("the file is a BigTIFF", "BigTIFF", "classic TIFF")
    if magic != 42:
        raise BadImageError(
            Reason.NOT_A_TIFF, "the file does not begin as a TIFF", f"version {magic}", "version 42"
        )
    if start < 8:
        raise unreadable("the directory lies inside the header", f"offset {start}", "8 or more")
    if start + 2 > len(data):
        raise truncated(len(data), start + 2)
    (entries,) = struct.unpack_from(order + "H", data, start)
    end = start + 2 + 12 * entries
    if not 0 < entries <= _MOST_TAGS:
        raise unreadable("the directory's size is absurd", f"{entries} tags", f"1 to {_MOST_TAGS}")
    if end > len(data):
        raise truncated(len(data), end + 4)
    # Some writers leave out the last four bytes of a last directory.
    if end + 4 <= len(data) and struct.unpack_from(order + "I", data, end)[0]:
        raise BadImageError(
            Reason.SEVERAL_FRAMES, "the file holds several images", "a second directory", "one"
        )
    return order, start + 2, entries


def _numbers(data: bytes, order: str, entry: _Entry) -> tuple[int, ...]:
    tag, kind, count, _ = entry
    code, width = _TYPE_CODES.get(kind, ("", 0))
    if not width or count == 0:
        raise unreadable(f"tag {tag} has no whole numbers", f"type {kind}, count {count}", "types 1, 3, 4")
    limit = count
    if tag not in _LONG:
        limit = min(count, _MOST_VALUES)
    elif count > MOST_CHUNKS:
        raise too_many_chunks(count)
    return struct.unpack(f"{order}{limit}{code}", _value(data, order, entry, limit, width))


def too_many_chunks(count: int) -> BadImageError:
    """The error of a file that is cut into more strips or tiles than a slice needs."""
    return BadImageError(Reason.TOO_LARGE, "too many strips or tiles", count, f"at most {MOST_CHUNKS}")


def _value(data: bytes, order: str, entry: _Entry, limit: int, width: int) -> bytes:
    """Bytes of the first `limit` values of a tag, `width` bytes each."""
    size = entry.values * width
    if size <= 4:
        return entry.content[: limit * width]
    (where,) = struct.unpack(order + "I", entry.content)
    if where + size > len(data):
        raise truncated(len(data), where + size)
    return data[where : where + limit * width]


def _described_images(description: str) -> int:
    """Images that the description of a directory claims: more than the directory says for a stack."""
    if description.startswith("ImageJ="):
        numbers = {name: int(value) for name, value in re.findall(r"^(\w+)=(\d{1,9})\s*$", description, re.M)}
        product = numbers.get("channels", 1) * numbers.get("slices", 1) * numbers.get("frames", 1)
        return numbers.get("images", product)
    if description.startswith("{") and '"truncated": true' in description:
        return _truncated_series(description.rstrip("\0 "))
    return 1


def _truncated_series(description: str) -> int:
    """Pages of a series whose shape tifffile wrote into its one directory, axes (pages, H, W)."""
    try:
        shape = json.loads(description)["shape"]
        # One image has at most three axes, and a third one that counts its samples.
        return int(shape[0]) if len(shape) > 3 or (len(shape) == 3 and shape[2] > 4) else 1
    except (ValueError, KeyError, TypeError, RecursionError):
        return 1
