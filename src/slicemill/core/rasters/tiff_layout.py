"""The layout that a TIFF's tags claim, checked before any decoder is given a byte.

Source: TIFF Revision 6.0 (Adobe, 1992), sections 8, 10, 11, 13, 14, 15, 18 and 19. Nothing is allocated from
a tag.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache
from operator import add, lt

from slicemill.core.rasters.form import Acceptance, Colour, Extra, Kind, RasterForm
from slicemill.core.rasters.tiff_tags import (
    MOST_CHUNKS,
    Tag,
    Tags,
    read_tags,
    too_many_chunks,
    truncated,
    unreadable,
)
from slicemill.core.scans.integrity import BadImageError, Reason

#: TIFF compression numbers that are accepted, by name. The fax ones hold 1 bit a pixel.
COMPRESSIONS = {
    1: "none", 2: "fax_runs", 3: "fax_group3", 4: "fax_group4", 5: "lzw", 8: "deflate", 32773: "packbits",
    32946: "deflate",
}  # fmt: skip

_COLOURS: dict[int, Colour] = {0: "white_is_zero", 1: "black_is_zero", 2: "rgb", 3: "palette", 4: "stencil"}
_EXTRAS: dict[int, Extra] = {1: "associated", 2: "unassociated"}
_KINDS: dict[int, Kind] = {1: "unsigned", 2: "signed", 3: "float", 4: "unsigned"}
_DEPTHS: dict[Kind, tuple[int, ...]] = {
    "unsigned": (1, 2, 4, 8, 16, 32, 64), "signed": (8, 16, 32, 64), "float": (16, 32, 64)
}  # fmt: skip
#: Bytes of one pixel with all its samples: four samples of 16 bits, or one of 64.
_MOST_PIXEL_BYTES = 8
#: Padding may make a file's tiles this much larger than the largest slice.
_PADDED = 2


@dataclass(frozen=True)
class TiffLayout:
    """Where a TIFF keeps its pixels. A chunk is a strip or a tile, (rows, columns) of one or all samples."""

    byte_order: str  #: "<" or ">", as in struct and numpy
    height: int
    width: int
    form: RasterForm
    compression: str
    fax_options: int
    predictor: int
    reversed_bits: bool
    separate_planes: bool
    tiled: bool
    chunk_height: int
    chunk_width: int
    offsets: tuple[int, ...]
    counts: tuple[int, ...]

    @property
    def chunk_samples(self) -> int:
        """Samples that one chunk interleaves."""
        return 1 if self.separate_planes else self.form.samples

    @property
    def planes(self) -> int:
        """Times that the grid of chunks is repeated."""
        return self.form.samples if self.separate_planes else 1

    @property
    def row_bytes(self) -> int:
        """Bytes of one row of a chunk: rows begin at a whole byte."""
        return -(-self.chunk_width * self.chunk_samples * self.form.bits // 8)

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of chunks in one plane."""
        return -(-self.height // self.chunk_height), -(-self.width // self.chunk_width)

    @property
    def chunk_rows(self) -> tuple[int, ...]:
        """Rows that each chunk stores: the last strip of a plane is cut, the last tile is padded."""
        rows, columns = self.grid
        last = self.chunk_height if self.tiled else self.height - (rows - 1) * self.chunk_height
        return ((self.chunk_height,) * (rows * columns - 1) + (last,)) * self.planes

    @cached_property
    def chunk_bytes(self) -> tuple[int, ...]:
        """Bytes of each chunk, decompressed."""
        row = self.row_bytes
        return tuple([rows * row for rows in self.chunk_rows])


def read_layout(data: bytes, max_pixels: int, accept: Acceptance) -> TiffLayout:
    """Read the layout of a TIFF file's bytes.

    Raises BadImageError with the reason if the tags are missing, contradict each other, exceed `max_pixels`,
    point outside the file, or describe a form that is not accepted, here or by `accept`.
    """
    order, tags = read_tags(data)

    def value(tag: int, default: int | None = None) -> int:
        if tag not in tags and default is None:
            raise unreadable(f"tag {tag} is missing")
        return tags[tag][0] if tag in tags else default or 0

    width, height = value(Tag.WIDTH), value(Tag.HEIGHT)
    check_size(width, height, max_pixels)
    samples = value(Tag.SAMPLES, 1)
    form = _form(
        samples,
        value(Tag.PHOTOMETRIC, 1 if samples < 3 else 2),
        tags.get(Tag.BITS, (1,)),
        tags.get(Tag.SAMPLE_FORMAT, (1,)),
        tags.get(Tag.EXTRA_SAMPLES, ()),
    )
    accept(form)
    compression = COMPRESSIONS.get(value(Tag.COMPRESSION, 1))
    _check_coding(tags, form, compression)
    tiled = Tag.TILE_WIDTH in tags
    layout = TiffLayout(
        byte_order=order,
        height=height,
        width=width,
        form=form,
        compression=compression or "",
        fax_options=value(Tag.FAX_OPTIONS, 0),
        predictor=value(Tag.PREDICTOR, 1),
        reversed_bits=value(Tag.FILL_ORDER, 1) == 2,
        separate_planes=form.samples > 1 and value(Tag.PLANAR, 1) == 2,
        tiled=tiled,
        chunk_height=value(Tag.TILE_HEIGHT) if tiled else min(value(Tag.ROWS_PER_STRIP, height), height),
        chunk_width=value(Tag.TILE_WIDTH) if tiled else width,
        offsets=tags.get(Tag.TILE_OFFSETS if tiled else Tag.OFFSETS, ()),
        counts=tags.get(Tag.TILE_COUNTS if tiled else Tag.COUNTS, ()),
    )
    _check_chunks(layout, len(data), max_pixels)
    return layout


def check_size(width: int, height: int, max_pixels: int) -> None:
    """Raise BadImageError unless an image of this size has pixels, and at most `max_pixels`."""
    if width < 1 or height < 1:
        raise BadImageError(
            Reason.UNEXPECTED_SHAPE, "the image has no pixels", f"{height} x {width}", "1 x 1 or more"
        )
    if width * height > max_pixels:
        raise BadImageError(
            Reason.TOO_LARGE, "the image is too large", f"{height} x {width}", f"{max_pixels} pixels"
        )


@lru_cache(maxsize=256)
def _form(
    samples: int,
    photometric: int,
    depths: tuple[int, ...],
    formats: tuple[int, ...],
    extra_samples: tuple[int, ...],
) -> RasterForm:
    """The form that the tags of a file describe; the files of a lake have few, so each is made once."""
    if samples not in (1, 2, 3, 4):
        raise BadImageError(
            Reason.UNEXPECTED_SHAPE, "unexpected number of channels", samples, "1 or 3, with or without alpha"
        )
    bits, kind = _depth(samples, set(depths), set(formats))
    colour = _COLOURS.get(photometric)
    colours = 3 if colour == "rgb" else 1
    if colour is None or samples < colours:
        raise BadImageError(
            Reason.UNEXPECTED_SHAPE,
            "unexpected colour model",
            f"photometric {photometric} with {samples} channels",
            "grey or RGB",
        )
    if len(extra_samples) > samples - colours:
        raise unreadable(
            "the extra samples are more than there are",
            f"{len(extra_samples)} of {samples}",
            samples - colours,
        )
    # A sample that the tag leaves out says no more of itself than one that is called unspecified.
    extra = [_EXTRAS.get(number, "unspecified") for number in extra_samples]
    extra += ["unspecified"] * (samples - colours - len(extra))
    return RasterForm(samples, bits, kind, colour, tuple(extra))


def _depth(samples: int, bits: set[int], formats: set[int]) -> tuple[int, Kind]:
    kinds = {_KINDS.get(number) for number in formats}
    depth, kind = min(bits), kinds.pop()
    if (
        kind is None
        or kinds
        or bits != {depth}
        or depth not in _DEPTHS[kind]
        or (depth < 8 and samples > 1)
        or depth * samples > 8 * _MOST_PIXEL_BYTES
    ):
        raise BadImageError(
            Reason.UNEXPECTED_DEPTH,
            "unexpected pixel depth",
            f"{samples} samples of {sorted(bits)} bits, sample format {sorted(formats)}",
            "whole or real numbers of one size, at most 64 bits a pixel",
        )
    return depth, kind


def _check_coding(tags: Tags, form: RasterForm, compression: str | None) -> None:
    """How the numbers are written down: what is not accepted is named."""
    code = tags.get(Tag.COMPRESSION, (1,))[0]
    fax = compression is not None and compression.startswith("fax")
    if compression is None or (fax and form.bits > 1):
        raise unreadable("the compression is not accepted", code, "none, LZW, deflate or packbits")
    plain_bits = form.bits == 1 and (fax or compression == "none")
    for tag, name, accepted in (
        (Tag.PREDICTOR, "predictor", (1, 2) if form.bits >= 8 and not fax else (1,)),
        (Tag.FILL_ORDER, "fill order", (1, 2) if plain_bits else (1,)),
        (Tag.PLANAR, "planar configuration", (1, 2)),
        (Tag.ORIENTATION, "orientation", (1,)),
    ):
        if tags.get(tag, (1,))[0] not in accepted:
            raise unreadable(f"the {name} is not accepted", tags[tag][0], " or ".join(map(str, accepted)))


def _check_chunks(layout: TiffLayout, size: int, max_pixels: int) -> None:
    chunk = f"{layout.chunk_height} x {layout.chunk_width}"
    if layout.chunk_height < 1 or layout.chunk_width < 1:
        raise unreadable("a strip or tile has no pixels", chunk)
    rows, columns = layout.grid
    chunks = rows * columns * layout.planes
    if chunks > MOST_CHUNKS:
        raise too_many_chunks(chunks)
    padded = layout.chunk_height * layout.chunk_width
    if padded > max_pixels or rows * columns * padded > _PADDED * max_pixels:
        raise BadImageError(
            Reason.TOO_LARGE,
            "the tiles are too large",
            f"{rows * columns} of {chunk}",
            f"{max_pixels} pixels",
        )
    if not len(layout.offsets) == len(layout.counts) == chunks:
        raise unreadable(
            "strips or tiles are missing",
            f"{len(layout.offsets)} offsets, {len(layout.counts)} counts",
            chunks,
        )
    end = max(map(add, layout.offsets, layout.counts))
    if end > size:
        raise truncated(size, end)
    if layout.compression == "none" and any(map(lt, layout.counts, layout.chunk_bytes)):
        raise BadImageError(
            Reason.TRUNCATED,
            "a strip or tile is too short",
            f"{sum(layout.counts)} bytes",
            f"{sum(layout.chunk_bytes)} bytes",
        )
    # Chunks that share bytes let a small file claim to be a large one.
    if sum(layout.counts) > size:
        raise unreadable(
            "strips or tiles overlap", f"{sum(layout.counts)} bytes of chunks", f"at most {size} bytes"
        )
