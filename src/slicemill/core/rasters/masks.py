"""What a mask file means: its stored values, never how a viewer would show them.

A mask's values are 0 and one that means tumour: 1, or the largest of its type. Colours that are equal are
one; an object that only alpha holds is taken from alpha. What the files of a scan leave open is decided for
all of them together, and where it stays open, none is believed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from slicemill.core.rasters.form import Raster, RasterForm
from slicemill.core.scans.integrity import BadImageError, Reason
from slicemill.types import FilePixels, SliceMask

#: Distinct values up to which a mask may hold classes; above, it is a picture.
_MOST_CLASSES = 8
#: Classes are numbered below this; a scan whose masks stay below it is taken to number them.
_CLASS_NUMBERS = 32
#: As many sound masks let one odd mask of a scan pass for a bad file.
_SOUND_MASKS = 3
#: Tumour in more than this share of the scan contradicts a mask that is to be shown the other way round.
_IMPLAUSIBLE_SHARE = 0.5


@dataclass(frozen=True)
class Plane:
    """One sample of a mask: uint8, 1 where it is not zero, axes (H, W), and its distinct values but zero.

    `values` is None where they can't be a mask's, and `fault` says why: more than `_MOST_CLASSES`, not
    numbers, colours.
    """

    nonzero: SliceMask
    values: tuple[float, ...] | None
    fault: str = ""

    @property
    def constant(self) -> bool:
        """Whether all pixels have one value."""
        covered = int(np.count_nonzero(self.nonzero))
        return not covered or (
            covered == self.nonzero.size and self.values is not None and len(self.values) == 1
        )


@dataclass(frozen=True)
class MaskFile:
    """A decoded mask file: its colour, equal in all colour samples, its alpha, and its form."""

    colour: Plane
    alpha: Plane | None
    form: RasterForm


def accept_mask(form: RasterForm) -> None:
    """Raise BadImageError unless a mask may have this form."""
    if "unspecified" in form.extra or len(form.extra) > 1:
        raise BadImageError(
            Reason.UNKNOWN_SAMPLE,
            "a sample of the mask does not say what it is",
            f"{form.samples} samples, beyond the colours: {', '.join(form.extra)}",
            "one sample, equal colours, or one more sample that is named alpha",
        )


def mask_file(raster: Raster) -> MaskFile:
    """A mask's colour and alpha, from its samples."""
    pixels, form = raster.pixels, raster.form
    colour = _plane(pixels[..., 0])
    if form.colours > 1 and not (pixels[..., : form.colours] == pixels[..., :1]).all():
        colour = Plane(colour.nonzero, None, f"{form.colours} colours that differ")
    return MaskFile(colour, _plane(pixels[..., -1]) if form.extra else None, form)


def _plane(samples: FilePixels) -> Plane:
    nonzero: SliceMask = (samples != 0).view(np.uint8)
    if samples.dtype == np.uint8:
        # Most masks are 0, or 0 and one value: a sum tells that without sorting the pixels.
        high = int(samples.max())
        if not high:
            return Plane(nonzero, ())
        if int(samples.sum(dtype=np.int64)) == high * int(np.count_nonzero(nonzero)):
            return Plane(nonzero, (float(high),))
    values = np.unique(samples)
    values = values[values != 0]
    if not np.isfinite(values.astype(np.float64)).all():
        return Plane(nonzero, None, "values that are not numbers")
    if len(values) > _MOST_CLASSES:
        return Plane(nonzero, None, f"{len(values)} values from {values[0]:g} to {values[-1]:g} besides 0")
    return Plane(nonzero, tuple(float(value) for value in values))


def scan_masks(files: Sequence[MaskFile]) -> list[SliceMask | BadImageError]:
    """The masks of one scan, uint8 0/1, axes (H, W); an error stands for one that is not believed.

    The rules, in their order, are those of `docs/ingest.md`.
    """
    planes = _objects(files)
    if isinstance(planes, BadImageError):
        return [planes] * len(files)
    errors = _values(planes, [file.form for file in files])
    errors = [
        error or contradiction
        for error, contradiction in zip(errors, _contradicted(files, planes), strict=True)
    ]
    return [error or plane.nonzero for error, plane in zip(errors, planes, strict=True)]


def _objects(files: Sequence[MaskFile]) -> list[Plane] | BadImageError:
    """The plane of each mask that holds the object: its colour, or its alpha where only that varies."""
    colours = [file.colour for file in files]
    alphas = [file.alpha for file in files if file.alpha is not None]
    with_alpha = [file for file in files if file.alpha is not None]
    if _one_value(alphas) or all(_same(file.colour, file.alpha) for file in with_alpha if file.alpha):
        return colours
    if _one_value([file.colour for file in with_alpha]):
        return [file.alpha or file.colour for file in files]
    return BadImageError(
        Reason.MASK_AMBIGUOUS,
        "colours and alpha of the scan's masks say different things",
        "an object in the colours and another in alpha",
        "an object in one of them, the other constant or equal",
    )


def _one_value(planes: Sequence[Plane]) -> bool:
    """Whether the planes of a scan hold one value in all their pixels."""
    return all(plane.constant for plane in planes) and len({plane.values for plane in planes}) <= 1


def _same(colour: Plane, alpha: Plane) -> bool:
    return np.array_equal(colour.nonzero, alpha.nonzero)


def _values(planes: Sequence[Plane], forms: Sequence[RasterForm]) -> list[BadImageError | None]:
    """For each mask the error of its values, judged by those of the whole scan."""
    meanings = [_meanings(plane, form) for plane, form in zip(planes, forms, strict=True)]
    positive = [number for number, plane in enumerate(planes) if plane.values != ()]
    # Of "1 is tumour" and "the largest value is tumour" the scan follows the one that more masks allow.
    meaning = max(("one", "largest"), key=lambda name: sum(name in meanings[n] for n in positive))
    odd = [number for number in positive if meaning not in meanings[number]]
    if not odd:
        return [None] * len(planes)
    sound = len(positive) - len(odd)
    classes = [number for number in odd if planes[number].values is not None and 0 in planes[number].nonzero]
    numbers = {value for n in positive for value in planes[n].values or ()}
    numbered = bool(classes) and max(numbers) < _CLASS_NUMBERS
    if len(numbers) > 1 and classes and (numbered or len(classes) > 1 or sound < _SOUND_MASKS):
        value_list = ", ".join(f"{value:g}" for value in sorted(numbers)[:_MOST_CLASSES])
        return [_several_classes(f"values {value_list} besides 0")] * len(planes)
    all_bad = len(odd) > sound
    return [
        _not_binary(planes[number], all_bad) if all_bad or number in odd else None
        for number in range(len(planes))
    ]


def _meanings(plane: Plane, form: RasterForm) -> tuple[str, ...]:
    """How a mask of one value may be read; none if it has several, or one that means nothing."""
    if plane.values is None or len(plane.values) != 1:
        return ()
    (value,) = plane.values
    names = []
    if value == 1:
        names.append("one")
    if value in _largest(form):
        names.append("largest")
    return tuple(names)


def _largest(form: RasterForm) -> set[float]:
    """Values that mean "all" in this form: its largest, and those of 8 and 16 bits stored in a wider one."""
    if form.kind == "float":
        return {255.0, 65535.0}
    wider = {float((1 << bits) - 1) for bits in (8, 16) if bits < form.bits}
    if form.kind == "signed":
        return {float((1 << (form.bits - 1)) - 1), -1.0} | wider
    return {float((1 << form.bits) - 1)} | wider


def _several_classes(values: str) -> BadImageError:
    return BadImageError(
        Reason.MASK_SEVERAL_CLASSES,
        "the masks of the scan hold several classes",
        values,
        "0 and one value that means tumour",
    )


def _not_binary(plane: Plane, all_bad: bool) -> BadImageError:
    values = plane.fault
    if plane.values is not None:
        values = f"values {', '.join(f'{value:g}' for value in (0.0, *plane.values))}"
    detail = "most masks of the scan are not binary" if all_bad else "the mask is not binary"
    return BadImageError(
        Reason.MASK_NOT_BINARY, detail, values, "0 and one of 1, the largest value of its type, 255, 65535"
    )


def _contradicted(files: Sequence[MaskFile], planes: Sequence[Plane]) -> list[BadImageError | None]:
    """Errors of masks whose tag says the opposite of their values, where the values are implausible."""
    doubts = [
        file.form.colour in ("white_is_zero", "palette") or plane is not file.colour
        for file, plane in zip(files, planes, strict=True)
    ]
    masks = [plane.nonzero for plane, doubt in zip(planes, doubts, strict=True) if doubt]
    pixels, tumour = sum(mask.size for mask in masks), sum(int(np.count_nonzero(mask)) for mask in masks)
    if tumour <= _IMPLAUSIBLE_SHARE * pixels:
        return [None] * len(files)
    error = BadImageError(
        Reason.MASK_AMBIGUOUS,
        "the scan's masks say one thing by their values and another by how they are to be shown",
        f"tumour in {tumour / pixels:.0%} of the pixels by their stored values",
        f"values of which at most {_IMPLAUSIBLE_SHARE:.0%} are not zero, or a mask that is black-is-zero",
    )
    return [error if doubt else None for doubt in doubts]
