"""Distances between the surfaces of two masks, exact and in bounded memory, with numpy alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from slicemill.types import Spacing

#: Squared distance of a voxel that has no surface voxel in reach.
_FAR = np.int32(1_000_000_000)

#: Distances of slices, rows and columns where they are not known: a voxel is a cube, its side the unit.
CUBES = (1.0, 1.0, 1.0)

#: Voxels whose last axis is searched at once.
_BLOCK = 8192


def hausdorff95(
    predicted: npt.NDArray[np.generic],
    true: npt.NDArray[np.generic],
    spacing: Spacing = CUBES,
) -> float | None:
    """95th percentile Hausdorff distance of two masks with axes (S, H, W), in units of `spacing`.

    A surface voxel is one of the mask with a face neighbour outside it; beyond the volume's border counts
    as outside. The distance of a surface voxel is the Euclidean one to the nearest surface voxel of the
    other mask, from centre to centre. The result is the greater of the two directions' 95th percentiles
    (linear between ranks), as in MONAI's HausdorffDistanceMetric(percentile=95). None if a mask is empty.
    """
    ours, theirs = np.asarray(predicted) != 0, np.asarray(true) != 0
    if ours.shape != theirs.shape or ours.ndim != 3:
        raise ValueError(f"masks: expected two of axes (S, H, W), found {ours.shape} and {theirs.shape}")
    if not ours.any() or not theirs.any():
        return None
    box = _bounding_box(ours | theirs)
    ours, theirs = surface(ours[box]), surface(theirs[box])
    forward, backward = _distances(ours, theirs, spacing), _distances(theirs, ours, spacing)
    return float(max(np.percentile(forward, 95), np.percentile(backward, 95)))


def surface(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Voxels of a mask with at least one face neighbour outside it; any number of axes."""
    padded = np.pad(mask, 1)
    inner = mask.copy()
    centre = tuple(slice(1, -1) for _ in range(mask.ndim))
    for axis in range(mask.ndim):
        for shifted in (slice(None, -2), slice(2, None)):
            inner &= padded[(*centre[:axis], shifted, *centre[axis + 1 :])]
    return mask & ~inner


def _bounding_box(mask: npt.NDArray[np.bool_]) -> tuple[slice, ...]:
    box = []
    for axis in range(mask.ndim):
        other_axes = tuple(other for other in range(mask.ndim) if other != axis)
        hit = np.flatnonzero(mask.any(axis=other_axes))
        box.append(slice(int(hit[0]), int(hit[-1]) + 1))
    return tuple(box)


def _distances(
    sources: npt.NDArray[np.bool_], targets: npt.NDArray[np.bool_], spacing: Spacing
) -> npt.NDArray[np.float64]:
    """Distance of each source voxel to the nearest target voxel.

    Squared Euclidean distance is separable: nearest along the columns first, then over the slices, then, for
    the source voxels alone, over the rows.
    """
    # Whole numbers are exact, and half as large.
    kind = np.dtype(np.int32 if spacing == CUBES else np.float64)
    of_slices, of_rows, of_columns = np.square(spacing).astype(kind)
    along_columns = _nearest_along_columns(targets)
    squared = _nearest_over_slices(
        np.where(along_columns == _FAR, _FAR, along_columns * of_columns).astype(kind), of_slices
    )
    slices, rows, columns = np.nonzero(sources)
    offsets = np.arange(sources.shape[1], dtype=np.int32)
    nearest = np.empty(len(slices), dtype=kind)
    for start in range(0, len(slices), _BLOCK):
        part = slice(start, start + _BLOCK)
        away = (rows[part, None].astype(np.int32) - offsets) ** 2 * of_rows
        nearest[part] = (squared[slices[part], :, columns[part]] + away).min(axis=1)
    return np.sqrt(nearest.astype(np.float64))


def _nearest_along_columns(targets: npt.NDArray[np.bool_]) -> npt.NDArray[np.int32]:
    width = targets.shape[2]
    columns = np.arange(width, dtype=np.int32)
    far = np.int32(30_000)
    before = np.maximum.accumulate(np.where(targets, columns, -far), axis=2)
    after = np.minimum.accumulate(np.where(targets, columns, far)[:, :, ::-1], axis=2)[:, :, ::-1]
    away = np.minimum(columns - before, after - columns)
    return np.where(away <= width, away**2, _FAR).astype(np.int32)


def _nearest_over_slices(squared: npt.NDArray[Any], square_of_a_step: Any) -> npt.NDArray[Any]:
    nearest = squared.copy()
    for step in range(1, len(squared)):
        away = squared.dtype.type(step * step * square_of_a_step)
        if away >= nearest.max():
            break
        np.minimum(nearest[step:], squared[:-step] + away, out=nearest[step:])
        np.minimum(nearest[:-step], squared[step:] + away, out=nearest[:-step])
    return nearest
