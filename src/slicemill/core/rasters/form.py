"""What a decoded file holds, before anyone has asked whether it is an image or a mask."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias

from slicemill.types import FilePixels

#: How the numbers of a sample are meant to be seen. "stencil" is TIFF's transparency mask.
Colour = Literal["white_is_zero", "black_is_zero", "rgb", "palette", "stencil"]

#: What a sample beyond the colours says of itself. Associated alpha has been multiplied into the colours.
Extra = Literal["unspecified", "associated", "unassociated"]

#: Type of a sample's numbers.
Kind = Literal["unsigned", "signed", "float"]


@dataclass(frozen=True)
class RasterForm:
    """The samples of a pixel: `samples` numbers of `bits` bits, colours first, then `extra`."""

    samples: int
    bits: int
    kind: Kind
    colour: Colour
    extra: tuple[Extra, ...] = ()

    @property
    def colours(self) -> int:
        """Samples that are colours, 1 or 3."""
        return self.samples - len(self.extra)

    @property
    def depth(self) -> str:
        """Bits and kind, in words."""
        return f"{self.bits} bits {self.kind}"


@dataclass(frozen=True)
class Raster:
    """One decoded file: its numbers as stored, axes (H, W, samples), native byte order."""

    pixels: FilePixels
    form: RasterForm


#: Raises BadImageError for a form that a reader has no use for, before anything is decoded.
Acceptance: TypeAlias = Callable[[RasterForm], None]
