"""Shape of a tumour's mask: the three features of Buda, Saha and Mazurowski (2019), and common ones.

Source: M. Buda, A. Saha, M. A. Mazurowski, "Association of genomic subtypes of lower-grade gliomas with
shape features automatically extracted by a deep learning algorithm", Computers in Biology and Medicine 109
(2019). Where the paper leaves a choice open (which slice, how boundary pixels follow each other), the choice
is stated at the function. Lengths are in units of `spacing`: millimetres where it is known, voxels where it
is (1, 1, 1).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt

from slicemill.core.evaluation.surface import surface
from slicemill.types import Floats, Spacing

Bool = npt.NDArray[np.bool_]

#: Equal angles that the boundary is cut into for the angular standard deviation.
ANGULAR_BINS = 10
#: Length of the averaging filter of the margin fluctuation, as a share of the boundary's pixels.
FILTER_SHARE = 0.1
#: By how much the bounding ellipsoid may miss the smallest one: a share of its quadratic form.
_ELLIPSOID_TOLERANCE = 1e-3
_ELLIPSOID_STEPS = 10_000
#: The 13 directions to a voxel's neighbours, one of each opposite pair.
_DIRECTIONS = tuple(
    (dz, dy, dx) for dz in (0, 1) for dy in (-1, 0, 1) for dx in (-1, 0, 1) if (dz, dy, dx) > (0, 0, 0)
)
#: Points of the sphere that share themselves out among the directions.
_SPHERE_POINTS = 20_000


@dataclass(frozen=True)
class ShapeFeatures:
    """Shape of one scan's mask. Axes z, y, x are slices, rows, columns; lengths in units of the spacing."""

    volume: float
    """Volume of all tumour voxels."""
    surface_area: float
    """Area of the boundary, by Crofton's formula over 13 directions."""
    sphericity: float
    """Surface of the ball of this volume over the surface; 1 for a ball, less for anything else."""
    slices: int
    """Slices that hold tumour."""
    extent: tuple[float, float, float]
    """Sides of the bounding box."""
    centroid: tuple[float, float, float]
    """Centre of mass, measured from the centre of the first voxel."""
    laterality: float
    """Columns from the image's middle to the centroid over half of the width: -1 to 1."""
    angular_standard_deviation: float
    """Of the slice with most tumour; see `angular_standard_deviation`."""
    bounding_ellipsoid_volume_ratio: float
    """Volume over that of the smallest ellipsoid around it; see `bounding_ellipsoid_volume`."""
    margin_fluctuation: float
    """Of the slice with most tumour; see `margin_fluctuation`."""


def shape_features(mask: npt.NDArray[np.generic], spacing: Spacing = (1.0, 1.0, 1.0)) -> ShapeFeatures | None:
    """Features of a mask with axes (S, H, W), zero where there is no tumour; None of an empty mask.

    `spacing`: distance of slices, rows and columns. Raises ValueError for another number of axes, or for a
    spacing that is not above 0.
    """
    tumour = np.asarray(mask) != 0
    if tumour.ndim != 3 or min(spacing) <= 0:
        raise ValueError(f"shape: expected axes (S, H, W) and spacing above 0, got {tumour.shape}, {spacing}")
    if not tumour.any():
        return None
    steps = np.array(spacing)
    places = np.argwhere(tumour)
    low, high = places.min(axis=0), places.max(axis=0)
    box = tumour[tuple(slice(first, last + 1) for first, last in zip(low, high, strict=True))]
    volume = float(len(places) * steps.prod())
    area = surface_area(box, spacing)
    largest = box[int(np.argmax(box.sum(axis=(1, 2))))]
    centre = places.mean(axis=0)
    middle = (tumour.shape[2] - 1) / 2
    return ShapeFeatures(
        volume=volume,
        surface_area=area,
        sphericity=float(math.pi ** (1 / 3) * (6 * volume) ** (2 / 3) / area),
        slices=int(np.count_nonzero(box.any(axis=(1, 2)))),
        extent=_triple((high - low + 1) * steps),
        centroid=_triple(centre * steps),
        laterality=float((centre[2] - middle) / max(middle, 0.5)),
        angular_standard_deviation=angular_standard_deviation(largest, spacing[1:]),
        bounding_ellipsoid_volume_ratio=volume / bounding_ellipsoid_volume(box, spacing),
        margin_fluctuation=margin_fluctuation(largest, spacing[1:]),
    )


def _triple(values: Floats) -> tuple[float, float, float]:
    return float(values[0]), float(values[1]), float(values[2])


def _radial_profile(tumour: Bool, spacing: tuple[float, float]) -> tuple[Floats, Floats]:
    """Angle and distance from the centroid of each boundary pixel, by angle; distances have the mean 1.

    Boundary pixels follow each other by their angle around the centroid, those of one angle by distance. For
    a boundary that no ray from the centroid crosses twice, that is the order along the boundary.
    """
    steps = np.array(spacing)
    centre = np.argwhere(tumour).mean(axis=0) * steps
    offsets = np.argwhere(surface(tumour)) * steps - centre
    distances = np.hypot(offsets[:, 0], offsets[:, 1])
    angles = np.arctan2(offsets[:, 0], offsets[:, 1])
    order = np.lexsort((distances, angles))
    mean = distances.mean()
    return angles[order], distances[order] / mean if mean > 0 else np.ones(len(order))


def angular_standard_deviation(tumour: Bool, spacing: tuple[float, float] = (1.0, 1.0)) -> float:
    """Mean over ten equal angles of the standard deviation of the boundary's distance from the centroid.

    `tumour`: one slice with tumour, axes (H, W). Distances are divided by their mean, so that size does not
    count. 0 for a disc; more, the more the margin varies within small parts of it. Angles without a boundary
    pixel are left out.
    """
    angles, distances = _radial_profile(tumour, spacing)
    bins = np.minimum((angles + math.pi) / (2 * math.pi) * ANGULAR_BINS, ANGULAR_BINS - 1).astype(np.int64)
    deviations = [distances[bins == index].std() for index in range(ANGULAR_BINS) if (bins == index).any()]
    return float(np.mean(deviations))


def margin_fluctuation(tumour: Bool, spacing: tuple[float, float] = (1.0, 1.0)) -> float:
    """Standard deviation of what smoothing takes from the boundary's distance from the centroid.

    `tumour`: one slice with tumour, axes (H, W). Distances, divided by their mean, are smoothed along the
    closed boundary by an average over a tenth of its pixels (at least 3, an odd number). 0 for a disc; more,
    the rougher the margin.
    """
    _, distances = _radial_profile(tumour, spacing)
    length = max(3, round(FILTER_SHARE * len(distances)) | 1)
    if len(distances) < length:
        return 0.0
    half = length // 2
    around = np.concatenate([distances[-half:], distances, distances[:half]])
    smooth = np.convolve(around, np.full(length, 1 / length), mode="valid")
    return float((distances - smooth).std())


def surface_area(tumour: Bool, spacing: Spacing = (1.0, 1.0, 1.0)) -> float:
    """Area of a mask's boundary, axes (S, H, W), by the Cauchy-Crofton formula over 13 directions.

    Lines of one direction through all voxel centres cross the boundary as often as voxel and neighbour
    differ; the area is twice the mean over directions of crossings times the area that each line stands for.
    Directions count by their share of the sphere. Source: Lehmann and Legland, Insight Journal (2012).
    """
    padded = np.pad(tumour, 1)
    steps = np.array(spacing)
    total = 0.0
    for direction, share in zip(_DIRECTIONS, _shares(spacing), strict=True):
        crossings = np.count_nonzero(padded != np.roll(padded, direction, axis=(0, 1, 2)))
        total += share * crossings * float(steps.prod()) / float(np.linalg.norm(np.array(direction) * steps))
    return 2 * total


@cache
def _shares(spacing: Spacing) -> tuple[float, ...]:
    """Of each direction, the part of the sphere that lies nearest to it or to its opposite."""
    index = np.arange(_SPHERE_POINTS) + 0.5
    height = 1 - 2 * index / _SPHERE_POINTS
    angle = math.pi * (1 + math.sqrt(5)) * index
    radius = np.sqrt(1 - height**2)
    points = np.stack([height, radius * np.cos(angle), radius * np.sin(angle)], axis=1)
    axes = np.array(_DIRECTIONS) * np.array(spacing)
    axes = axes / np.linalg.norm(axes, axis=1, keepdims=True)
    nearest = np.abs(points @ axes.T).argmax(axis=1)
    counts = np.bincount(nearest, minlength=len(_DIRECTIONS))
    return tuple(float(count) / _SPHERE_POINTS for count in counts)


def bounding_ellipsoid_volume(tumour: Bool, spacing: Spacing = (1.0, 1.0, 1.0)) -> float:
    """Volume of the smallest ellipsoid around the corners of a mask's voxels, axes (S, H, W).

    Corners stick out of a smooth body, so that its own ellipsoid is smaller: by 12 % for a ball of radius 20.
    Source: L. Khachiyan (1996), with the away steps of M. Todd and E. Yildirim, Discrete Applied Mathematics
    155 (2007). Raises ValueError for an empty mask.
    """
    points = _corners(tumour) * np.array(spacing)
    count, axes = points.shape
    lifted = np.concatenate([points.T, np.ones((1, count))])
    reach = points @ np.array(_DIRECTIONS).T
    start = np.unique([reach.argmin(axis=0), reach.argmax(axis=0)])
    weights = np.zeros(count)
    weights[start] = 1 / len(start)
    for _ in range(_ELLIPSOID_STEPS):
        form = np.linalg.inv(lifted * weights @ lifted.T)
        distances = np.einsum("ip,ij,jp->p", lifted, form, lifted, optimize=True)
        out = int(distances.argmax())
        carried = np.flatnonzero(weights > 0)
        within = int(carried[distances[carried].argmin()])
        excess = distances[out] / (axes + 1) - 1
        slack = 1 - distances[within] / (axes + 1)
        if max(excess, slack) < _ELLIPSOID_TOLERANCE:
            break
        if excess > slack:
            step = (distances[out] - axes - 1) / ((axes + 1) * (distances[out] - 1))
            weights *= 1 - step
            weights[out] += step
        else:
            step = (axes + 1 - distances[within]) / ((axes + 1) * (distances[within] - 1))
            step = min(step, weights[within] / (1 - weights[within]))
            weights *= 1 + step
            weights[within] = max(0.0, weights[within] - step)
    centre = points.T @ weights
    inertia = axes * ((points.T * weights) @ points - np.outer(centre, centre))
    # The form is met within the tolerance; stretched by the farthest point, every corner is inside.
    offsets = points - centre
    farthest = float(np.einsum("pi,ij,pj->p", offsets, np.linalg.inv(inertia), offsets).max())
    return float(4 / 3 * math.pi * math.sqrt(np.linalg.det(inertia) * farthest**axes))


def _corners(tumour: Bool) -> Floats:
    """Corners of the voxels that end a row of tumour along every axis: all that can touch a convex body."""
    ends = np.ones_like(tumour)
    for axis in range(tumour.ndim):
        first = np.cumsum(tumour, axis=axis, dtype=np.int32) == 1
        last = np.flip(np.cumsum(np.flip(tumour, axis), axis=axis, dtype=np.int32), axis) == 1
        ends &= tumour & (first | last)
    voxels = np.argwhere(ends)
    if not len(voxels):
        raise ValueError("bounding ellipsoid: expected a mask with tumour, found an empty one")
    halves = np.array(np.meshgrid(*[(-0.5, 0.5)] * tumour.ndim)).reshape(tumour.ndim, -1).T
    return np.unique((voxels[:, None] + halves).reshape(-1, tumour.ndim), axis=0)
