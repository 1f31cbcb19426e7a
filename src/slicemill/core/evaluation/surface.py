"""Distances between the surfaces of two masks, exact and in bounded memory, with numpy alone."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

#: Squared distance of a voxel that has no surface voxel in reach.
_FAR = np.int32(1_000_000_000)

#: Voxels whose last axis is searched at once.
_BLOCK = 8192


def hausdorff95(predicted: npt.NDArray[np.generic], true: npt.NDArray[np.generic]) -> float | None:
    """95th percentile Hausdorff distance of two masks with axes (S, H, W), in voxels.

    A surface voxel is one of the mask with a face neighbour outside it; beyond the volume's border counts
    as outside. The distance of a surface voxel is the Euclidean one to the nearest surface voxel of the
    other mask, voxels taken as cubes. The result is the greater of the two directions' 95th percentiles
    (linear between ranks), as in MONAI's HausdorffDistanceMetric(percentile=95). None if a mask is empty.
    """
    ours, theirs = np.asarray(predicted) != 0, np.asarray(true) != 0
    if ours.shape != theirs.shape or ours.ndim != 3:
        raise ValueError(f"masks: expected two of axes (S, H, W), found {ours.shape} and {theirs.shape}")
    if not ours.any() or not theirs.any():
        return None
    box = _bounding_box(ours | theirs)
    ours, theirs = surface(ours[box]), surface(theirs[box])
    forward, backward = _distances(ours, theirs), _distances(theirs, ours)
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


def _distances(sources: npt.NDArray[np.bool_], targets: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
    """Distance of each source voxel to the nearest target voxel.

    Squared Euclidean distance is separable: nearest along the columns first, then over the slices, then, for
    the source voxels alone, over the rows.
    """
    squared = _nearest_over_slices(_nearest_along_columns(targets))
    slices, rows, columns = np.nonzero(sources)
    offsets = np.arange(sources.shape[1], dtype=np.int32)
    nearest = np.empty(len(slices), dtype=np.int32)
    for start in range(0, len(slices), _BLOCK):
        part = slice(start, start + _BLOCK)
        away = (rows[part, None].astype(np.int32) - offsets) ** 2
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


def _nearest_over_slices(squared: npt.NDArray[np.int32]) -> npt.NDArray[np.int32]:
    nearest = squared.copy()
    for step in range(1, len(squared)):
        if step * step >= int(nearest.max()):
            break
        away = np.int32(step * step)
        np.minimum(nearest[step:], squared[:-step] + away, out=nearest[step:])
        np.minimum(nearest[:-step], squared[step:] + away, out=nearest[:-step])
    return nearest
