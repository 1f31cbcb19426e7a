"""Rows of the features table: the shape of one scan's predicted or true mask."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from slicemill.core.evaluation.shape import ShapeFeatures
from slicemill.types import Spacing

#: Features that are tested against clinical columns: the paper's three first.
TESTED = (
    "angular_standard_deviation",
    "bounding_ellipsoid_volume_ratio",
    "margin_fluctuation",
    "volume",
    "sphericity",
)

#: Features that clinical columns are predicted from: few, because patients are.
PREDICTORS = (*TESTED, "laterality", "components")


@dataclass(frozen=True)
class FeatureRow:
    """A row of the features table; its fields are the table's columns."""

    patient_id: str
    scan_id: str
    mask: Literal["predicted", "true"]
    volume: float
    surface_area: float
    sphericity: float
    slices: int
    components: int
    largest_component: float
    extent_z: float
    extent_y: float
    extent_x: float
    centroid_z: float
    centroid_y: float
    centroid_x: float
    laterality: float
    angular_standard_deviation: float
    bounding_ellipsoid_volume_ratio: float
    margin_fluctuation: float
    spacing: Spacing
    model_id: str


def feature_row(
    patient_id: str,
    scan_id: str,
    mask: Literal["predicted", "true"],
    shape: ShapeFeatures,
    component_sizes: list[int],
    spacing: Spacing,
    model_id: str,
) -> FeatureRow:
    """The row of one mask; `component_sizes`: voxels of each connected part."""
    (extent_z, extent_y, extent_x), (centroid_z, centroid_y, centroid_x) = shape.extent, shape.centroid
    return FeatureRow(
        patient_id=patient_id,
        scan_id=scan_id,
        mask=mask,
        volume=shape.volume,
        surface_area=shape.surface_area,
        sphericity=shape.sphericity,
        slices=shape.slices,
        components=len(component_sizes),
        largest_component=max(component_sizes) / sum(component_sizes),
        extent_z=extent_z,
        extent_y=extent_y,
        extent_x=extent_x,
        centroid_z=centroid_z,
        centroid_y=centroid_y,
        centroid_x=centroid_x,
        laterality=shape.laterality,
        angular_standard_deviation=shape.angular_standard_deviation,
        bounding_ellipsoid_volume_ratio=shape.bounding_ellipsoid_volume_ratio,
        margin_fluctuation=shape.margin_fluctuation,
        spacing=spacing,
        model_id=model_id,
    )


def feature_words(feature: str) -> str:
    """A feature's name in words."""
    return feature.replace("_", " ")


def by_patient(
    rows: Sequence[FeatureRow], mask: str, names: Sequence[str] = TESTED
) -> dict[str, dict[str, float]]:
    """Mean of each feature over a patient's scans, by the feature's name and the patient."""
    values: dict[str, dict[str, list[float]]] = {name: defaultdict(list) for name in names}
    for row in rows:
        if row.mask == mask:
            for name in names:
                values[name][row.patient_id].append(getattr(row, name))
    return {
        name: {patient: float(np.mean(of_scans)) for patient, of_scans in sorted(of_feature.items())}
        for name, of_feature in values.items()
    }
