"""Decoded files to the images of a scan: which forms are accepted, and how each becomes uint8 (H, W, 3)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from slicemill.core.rasters.form import Raster, RasterForm
from slicemill.core.scans.integrity import BadImageError, Reason
from slicemill.types import SliceImage

#: The value below which this share of a channel's voxels lies, over the scan's 16-bit slices, becomes 255.
#: Half a percent holds any number of hot pixels, and the network's own clip, at p99, lies below.
SCALE_SHARE = 0.995

_VALUES_16 = 1 << 16
#: Signed numbers read without their tag: more than this share lies in the range's upper half ...
_WRAPPED_SHARE = 0.005
#: ... and of the values between its quarters there are fewer than this share of those.
_BETWEEN_SHARE = 0.01


@dataclass(frozen=True)
class SlicePixels:
    """An image as its file has it: uint8 or uint16, axes (H, W, 3), and what decoding changed.

    `white_is_zero` is still to be applied to 16 bits, after they are scaled.
    """

    pixels: npt.NDArray[np.unsignedinteger[Any]]
    notes: tuple[str, ...] = ()
    white_is_zero: bool = False


def accept_image(form: RasterForm) -> None:
    """Raise BadImageError unless a slice's image may have this form."""
    if form.kind != "unsigned" or form.bits not in (8, 16):
        raise BadImageError(
            Reason.UNEXPECTED_DEPTH, "unexpected pixel depth", form.depth, "8 or 16 bits unsigned"
        )
    if form.colour in ("palette", "stencil") or len(form.extra) > 1:
        raise BadImageError(
            Reason.UNEXPECTED_SHAPE,
            "unexpected colour model",
            f"{form.colour} with {form.samples} channels",
            "grey or RGB, with or without alpha",
        )
    if form.extra == ("unspecified",):
        raise BadImageError(
            Reason.UNKNOWN_SAMPLE,
            "a sample beyond the colours does not say what it is",
            f"{form.samples} samples, the last one unspecified",
            "1 or 3 samples, or one more that is named alpha",
        )


def slice_pixels(raster: Raster) -> SlicePixels:
    """The image of a slice with three channels; alpha is dropped and grey repeated, each noted.

    Raises BadImageError where alpha has been multiplied into the colours and is not opaque.
    """
    form = raster.form
    pixels: npt.NDArray[np.unsignedinteger[Any]] = raster.pixels  # type: ignore[assignment]
    notes = []
    if form.extra:
        if form.extra[0] == "associated" and pixels[..., -1].min() < np.iinfo(pixels.dtype).max:
            raise BadImageError(
                Reason.UNKNOWN_SAMPLE,
                "the colours were multiplied by alpha",
                "associated alpha that is not opaque",
                "opaque or unassociated alpha",
            )
        pixels = pixels[..., :-1]
        notes.append("alpha dropped")
    inverted = form.colour == "white_is_zero"
    if inverted:
        notes.append("white-is-zero inverted")
        if form.bits == 8:
            pixels, inverted = np.invert(pixels), False
    if form.bits == 16:
        notes.append("16 bits scaled to 8 by the scan's percentile 99.5")
    if pixels.shape[-1] == 1:
        pixels = np.repeat(pixels, 3, axis=-1)
        notes.append("grey repeated in three channels")
    return SlicePixels(pixels, tuple(notes), inverted)


def eight_bit(images: Sequence[SlicePixels]) -> list[SliceImage | BadImageError]:
    """Bring the slices of one scan to uint8, axes (H, W, 3); an error stands for a slice that can't be.

    8-bit slices stay as they are. In the others, value v becomes min(255, round(255 * v / high)): high is
    the channel's percentile `SCALE_SHARE` over all 16-bit slices of the scan, so that slices keep their
    relation, or its largest value if that percentile is 0. White-is-zero is inverted then.
    """
    scaled: dict[bool, npt.NDArray[np.float64] | BadImageError] = {}
    for inverted in (False, True):
        deep = [image.pixels for image in images if _is_deep(image) and image.white_is_zero == inverted]
        if deep:
            scaled[inverted] = _highs(deep)
    return [
        _scaled(image, scaled[image.white_is_zero])
        if _is_deep(image)
        else np.ascontiguousarray(image.pixels, dtype=np.uint8)
        for image in images
    ]


def _is_deep(image: SlicePixels) -> bool:
    return image.pixels.dtype == np.uint16


def _highs(images: Sequence[npt.NDArray[Any]]) -> npt.NDArray[np.float64] | BadImageError:
    """The value of each channel that becomes 255, axes (C,), or the error of an ambiguous depth."""
    counts = np.stack(
        [
            np.sum(
                [np.bincount(image[..., channel].ravel(), minlength=_VALUES_16) for image in images], axis=0
            )
            for channel in range(images[0].shape[-1])
        ]
    )
    for channel in counts:
        upper = channel[_VALUES_16 // 2 :].sum()
        between = channel[_VALUES_16 // 4 : 3 * _VALUES_16 // 4].sum()
        lower = channel[: _VALUES_16 // 4].sum()
        if lower and upper > _WRAPPED_SHARE * channel.sum() and between < _BETWEEN_SHARE * upper:
            return BadImageError(
                Reason.DEPTH_AMBIGUOUS,
                "16-bit values lie at both ends of the range and not between",
                f"{upper / channel.sum():.1%} of the scan's values above {_VALUES_16 // 2}",
                "unsigned values, or signed ones brought to 0 and more",
            )
    return np.array([_high(channel) for channel in counts])


def _high(counts: npt.NDArray[np.int64]) -> float:
    below = np.cumsum(counts)
    return float(np.searchsorted(below, SCALE_SHARE * below[-1]) or np.flatnonzero(counts)[-1])


def _scaled(image: SlicePixels, high: npt.NDArray[np.float64] | BadImageError) -> SliceImage | BadImageError:
    if isinstance(high, BadImageError):
        return high
    grey = np.rint(image.pixels * (255.0 / np.maximum(high, 1.0)))
    eight: SliceImage = np.minimum(grey, 255.0).astype(np.uint8)
    return np.invert(eight) if image.white_is_zero else eight
