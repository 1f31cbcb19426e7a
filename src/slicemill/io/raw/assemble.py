"""Decoded slices to a scan: the rules that only a whole scan can answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from slicemill.core.rasters.images import SlicePixels, eight_bit
from slicemill.core.rasters.masks import MaskFile, scan_masks
from slicemill.core.scans.folders import SliceFiles
from slicemill.core.scans.integrity import BadImageError, Problem, Reason, usual_shape
from slicemill.core.scans.scan import MaskStatus, Slice, Source
from slicemill.io.raw.tiff import count_values
from slicemill.types import SliceImage, SliceMask


@dataclass(frozen=True)
class SliceRead:
    """One slice after its own decode; the scan's rules come later."""

    files: SliceFiles
    image: SlicePixels | None
    mask: MaskFile | None
    mask_status: MaskStatus
    problems: tuple[Problem, ...]
    sources: tuple[Source, ...] = ()


def assemble(reads: Sequence[SliceRead], scan_id: str) -> tuple[list[Slice], list[Problem]]:
    """The accepted slices of a scan, all of one shape and 8 bits, and the problems of every read.

    A slice whose mask is bad is left without it and marked `rejected`.
    """
    problems = [problem for read in reads for problem in read.problems]
    good = [read for read in reads if read.image is not None]
    if good:
        good, misfits = _of_usual_shape(good, scan_id)
        problems += misfits
    good, images, unclear = _eight_bit(good, scan_id)
    masks, doubts = _masks(good, scan_id)
    slices = [
        _slice(read, image, masks.get(read.files.slice_index))
        for read, image in zip(good, images, strict=True)
    ]
    return slices, [*problems, *unclear, *doubts]


def _of_usual_shape(reads: list[SliceRead], scan_id: str) -> tuple[list[SliceRead], list[Problem]]:
    shapes = [read.image.pixels.shape for read in reads if read.image]
    usual = usual_shape(shapes)
    misfits = [
        Problem(
            read.files.image.uri,
            scan_id,
            Reason.UNEXPECTED_SHAPE,
            "the slice differs in size from most of its scan",
            "x".join(map(str, shape[:2])),
            "x".join(map(str, usual[:2])),
        )
        for read, shape in zip(reads, shapes, strict=True)
        if shape != usual
    ]
    return [read for read, shape in zip(reads, shapes, strict=True) if shape == usual], misfits


def _eight_bit(
    reads: Sequence[SliceRead], scan_id: str
) -> tuple[list[SliceRead], list[SliceImage], list[Problem]]:
    """The slices whose images become uint8, these images, and the problems of the others."""
    clear, images, problems = [], [], []
    for read, image in zip(reads, eight_bit([read.image for read in reads if read.image]), strict=True):
        if isinstance(image, BadImageError):
            problems.append(image.at(read.files.image.uri, scan_id))
        else:
            clear.append(read)
            images.append(image)
    return clear, images, problems


def _masks(reads: Sequence[SliceRead], scan_id: str) -> tuple[dict[int, SliceMask], list[Problem]]:
    """The masks of a scan that are believed, by slice index, and the problems of the others."""
    files = {read.files.slice_index: read.mask for read in reads if read.mask is not None}
    uris = {read.files.slice_index: read.files.mask.uri for read in reads if read.files.mask}
    masks, problems = {}, []
    for index, mask in zip(files, scan_masks(list(files.values())), strict=True):
        if isinstance(mask, BadImageError):
            problems.append(mask.at(uris[index], scan_id))
        else:
            masks[index] = mask
    return masks, problems


def _slice(read: SliceRead, image: SliceImage, mask: SliceMask | None) -> Slice:
    return Slice(
        slice_index=read.files.slice_index,
        image=image,
        mask=mask,
        histogram=count_values(image),
        mask_status="rejected" if read.mask_status == "present" and mask is None else read.mask_status,
        source_uri=read.files.image.uri,
        conversion="; ".join(read.image.notes if read.image else ()) or None,
    )
