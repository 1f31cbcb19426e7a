"""Shape features of the scans of score folders: of what a model predicted, and of the truth beside it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import ndimage

from slicemill.core.evaluation.rows import ScanScore
from slicemill.core.evaluation.shape import shape_features
from slicemill.core.results.feature_rows import FeatureRow, feature_row
from slicemill.core.scans.spacing import Side, spacing_by_patient
from slicemill.errors import InputError
from slicemill.io.lake.tables import LakeTables
from slicemill.io.scores.results import ScoreTables
from slicemill.types import ScanMasks, Spacing

_TOUCHING = np.ones((3, 3, 3), dtype=bool)


@dataclass(frozen=True)
class FeatureTable:
    """Features of all masks that hold tumour, and the scans whose mask does not."""

    rows: tuple[FeatureRow, ...]
    empty_predicted: tuple[str, ...]
    """Scans in which the model found nothing."""
    empty_true: tuple[str, ...]
    """Labelled scans without tumour."""
    without_truth: tuple[str, ...]
    """Scans whose slices are not all labelled, so that their true shape is not known."""


def feature_table(lake: LakeTables, tables: Iterable[ScoreTables], sides: Sequence[Side]) -> FeatureTable:
    """Features of every scored scan of several score folders.

    `sides`: distance of slices, rows and columns, each a number or a clinical column of the lake. Raises
    InputError for scores of patients that the model has seen, for a scan that two folders hold, and
    for one that the lake lacks: associations are of out-of-fold masks only. Raises ConfigError for a column
    that the lake lacks, InputError for a patient without a distance in it.
    """
    rows: list[FeatureRow] = []
    empty: dict[str, list[str]] = {"predicted": [], "true": [], "unknown": []}
    owners: dict[str, str] = {}
    spacing_of = _spacing(lake, sides)
    for table in tables:
        for score in table.scans:
            _check(score, owners, str(table.home))
            spacing = spacing_of.get(score.patient_id)
            if spacing is None:
                raise _no_spacing(sides, score.patient_id)
            scan = lake.scan(score.scan_id)
            predicted = {
                index: slice_.mask
                for index, slice_ in table.predictions(score).items()
                if slice_.mask is not None
            }
            truth = {slice_.slice_index: slice_.mask for slice_ in scan.slices if slice_.mask is not None}
            rows += _rows(score, "predicted", predicted, spacing, empty["predicted"])
            if len(truth) == len(scan.slices):
                rows += _rows(score, "true", truth, spacing, empty["true"])
            else:
                empty["unknown"].append(score.scan_id)
    return FeatureTable(tuple(rows), tuple(empty["predicted"]), tuple(empty["true"]), tuple(empty["unknown"]))


def _spacing(lake: LakeTables, sides: Sequence[Side]) -> dict[str, Spacing]:
    """Spacing by patient; see `feature_table`."""
    rows = {
        scan.patient_id: {name: lake.clinical[name].get(scan.patient_id) for name in lake.clinical}
        for scan in lake.scans
    }
    return spacing_by_patient(sides, lake.clinical.keys(), rows)


def _no_spacing(sides: Sequence[Side], patient: str) -> InputError:
    columns = ", ".join(side for side in sides if isinstance(side, str))
    return InputError(
        f"the clinical table has no distance in {columns} for {patient}",
        expected="millimetres, above 0, for each scored patient",
        found="none",
        advice="Mend the clinical table and ingest again, or give a number for all scans.",
    )


def _check(score: ScanScore, owners: dict[str, str], home: str) -> None:
    if score.seen or score.seen is None:
        raise InputError(
            f"{score.scan_id} is not known to be of a patient that the model has not seen",
            expected="out-of-fold scores, or scores of new patients, by a model whose card names its own",
            found="a patient that it has seen" if score.seen else "a model whose card names no patients",
            advice="Give --scores the folder of a cross-validation.",
        )
    if score.scan_id in owners:
        raise InputError(
            f"two score folders hold {score.scan_id}",
            expected="each scan once",
            found=f"{owners[score.scan_id]} and {home}",
        )
    owners[score.scan_id] = home


def _rows(
    score: ScanScore,
    mask: Literal["predicted", "true"],
    slices: Mapping[int, np.ndarray],
    spacing: Spacing,
    empty: list[str],
) -> list[FeatureRow]:
    stack = _stack(slices)
    shape = None if stack is None else shape_features(stack, spacing)
    if stack is None or shape is None:
        empty.append(score.scan_id)
        return []
    labels, _ = ndimage.label(stack, structure=_TOUCHING)
    sizes = [int(size) for size in np.bincount(labels.ravel())[1:]]
    return [feature_row(score.patient_id, score.scan_id, mask, shape, sizes, spacing, score.model_id)]


def _stack(slices: Mapping[int, np.ndarray]) -> ScanMasks | None:
    """Masks by slice number as axes (S, H, W), in slice order; None of a scan without masks."""
    return np.stack([slices[index] for index in sorted(slices)]) if slices else None
