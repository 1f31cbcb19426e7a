"""Canonical URIs, and array aliases.

Axis letters: S slices, H rows, W columns, C channels; masks hold 0 and 1.
"""

from __future__ import annotations

from typing import Any, NewType, TypeAlias

import numpy as np
import numpy.typing as npt

#: A canonical URI: `file:///absolute/path` or `s3://bucket/key`. `io.storage.uri` alone makes one.
Uri = NewType("Uri", str)

#: uint8 image of one slice, axes (H, W, C), C order.
SliceImage: TypeAlias = npt.NDArray[np.uint8]
#: uint8 0/1 mask of one slice, axes (H, W).
SliceMask: TypeAlias = npt.NDArray[np.uint8]
#: uint8 images of one scan, axes (S, H, W, C).
ScanImages: TypeAlias = npt.NDArray[np.uint8]
#: uint8 0/1 masks of one scan, axes (S, H, W).
ScanMasks: TypeAlias = npt.NDArray[np.uint8]
#: Numbers of a decoded file, whole or real, in native order, axes (H, W, C).
FilePixels: TypeAlias = npt.NDArray[np.number[Any]]
#: Counts of grey values, axes (..., 256).
Histograms: TypeAlias = npt.NDArray[np.int64]
#: Distance of slices, rows and columns.
Spacing: TypeAlias = tuple[float, float, float]
#: Real numbers of any shape.
Floats: TypeAlias = npt.NDArray[np.float64]
