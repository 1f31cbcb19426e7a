"""From decoded scans to their predicted masks and scores, with one predictor a process."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeVar

import numpy as np

from slicemill.core.evaluation.dice import dice_from_counts, scan_scores, slice_counts
from slicemill.core.evaluation.drift import drift_warnings
from slicemill.core.scans.profile import scan_missing_sequences, statistics
from slicemill.core.scans.scan import Scan
from slicemill.errors import ModelFileError
from slicemill.io.run.card import FLIPS, LARGEST_COMPONENT, SMOOTH_SLICES, Card
from slicemill.io.scores.writer import ScoredScan
from slicemill.io.storage.uri import display
from slicemill.model.predicting.batches import Prediction, predict_scans
from slicemill.model.predicting.cleaning import largest_component
from slicemill.model.predicting.predictor import Predictor
from slicemill.types import ScanMasks, Uri

_T = TypeVar("_T")

#: Slices of a forward pass unless asked otherwise. On a CPU more fall out of its caches.
BATCH_SIZES = {"cpu": 8, "cuda": 64}


@dataclass(frozen=True)
class ScoreSettings:
    """How to score: which model, on what, from which probability on, with which test-time options."""

    model: Uri
    model_id: str
    device: str
    precision: str
    threads: int | None
    batch_size: int | None
    threshold: float
    flips: bool = False
    smooth_slices: bool = False
    largest_component: bool = False

    @property
    def options(self) -> tuple[str, ...]:
        """Names of the test-time options that are on: they change the output."""
        named = {
            FLIPS: self.flips,
            SMOOTH_SLICES: self.smooth_slices,
            LARGEST_COMPONENT: self.largest_component,
        }
        return tuple(name for name, on in named.items() if on)


def loaded(settings: ScoreSettings, gpu: int = 0) -> Predictor:
    """The predictor of this process, loaded once.

    Raises ModelFileError if the run holds another model than the settings name.
    """
    predictor = _loaded(
        settings.model, settings.model_id, settings.device, settings.precision, settings.threads, gpu
    )
    if predictor.model_id != settings.model_id:
        raise ModelFileError(
            f"{display(settings.model)} was written again while it scored",
            expected=f"model {settings.model_id}",
            found=predictor.model_id,
            advice="Score again.",
        )
    return predictor


# By the id too: a worker outlives a job, and the next one may bring another model in the same place.
@lru_cache(maxsize=2)
def _loaded(
    model: Uri, model_id: str, device: str, precision: str, threads: int | None, gpu: int
) -> Predictor:
    return Predictor.load(model, device, precision, threads, gpu)


def predictions(
    scans: Iterable[tuple[_T, Scan]], predictor: Predictor, settings: ScoreSettings
) -> Iterator[tuple[_T, Scan, Prediction]]:
    """Predict scans as the settings say; see `predict_scans`."""
    batch_size = settings.batch_size or BATCH_SIZES[predictor.device.type]
    return predict_scans(
        scans, predictor, batch_size, settings.threshold, settings.flips, settings.smooth_slices
    )


def scored_scan(scan: Scan, prediction: Prediction, card: Card, settings: ScoreSettings) -> ScoredScan:
    """A predicted scan compared with its truth where there is one, and with the training scans."""
    masks = prediction.masks
    if masks is not None and settings.largest_component:
        masks = largest_component(masks)
    return ScoredScan(
        scan, masks, prediction.peaks, _slice_dice(scan, masks), _scores(scan, masks, card, settings)
    )


def _slice_dice(scan: Scan, predicted: ScanMasks | None) -> tuple[float | None, ...]:
    if predicted is None:
        return (None,) * len(scan.slices)
    found: list[float | None] = []
    for one, mask in zip(scan.slices, predicted, strict=True):
        counts = None if one.mask is None else slice_counts(mask[None], one.mask[None])[0]
        found.append(None if counts is None else dice_from_counts(*(int(count) for count in counts)))
    return tuple(found)


def _scores(
    scan: Scan, predicted: ScanMasks | None, card: Card, settings: ScoreSettings
) -> Mapping[str, Any]:
    labelled = [position for position, one in enumerate(scan.slices) if one.mask is not None]
    volume = 0 if predicted is None else int(np.count_nonzero(predicted))
    row: dict[str, Any] = {
        "predicted_volume": None if card.task == "classify" else volume,
        "slices": len(scan.slices),
        "labelled_slices": len(labelled),
        "warnings": _warnings(scan, card),
        "options": list(settings.options),
        "threshold": settings.threshold,
    }
    if not labelled:
        return row
    true = np.stack([one.mask for one in scan.slices if one.mask is not None])
    row["true_volume"] = int(np.count_nonzero(true))
    if predicted is not None:
        scores = scan_scores(predicted[labelled], true)
        row |= {name: getattr(scores, name) for name in ("dice", "iou", "slice_mean_dice", "hd95")}
    return row


def _warnings(scan: Scan, card: Card) -> list[str]:
    found = drift_warnings(_profile_columns(scan), card.training_profile) if scan.slices else []
    if not scan.slices:
        found.append("no usable slice")
    rejected = sum(one.mask_status == "rejected" for one in scan.slices)
    if rejected:
        found.append(f"{rejected} bad masks left out of the truth")
    if scan.problems:
        found.append(f"{len(scan.problems)} files set aside")
    return found


def _profile_columns(scan: Scan) -> dict[str, Any]:
    """`slicemill.core.evaluation.drift.PROFILE_COLUMNS` of a scan, as the scans table has them."""
    height, width, _ = scan.slices[0].image.shape
    return {
        "height": height,
        "width": width,
        "missing_sequences": scan_missing_sequences(scan),
        **statistics(np.sum([one.histogram for one in scan.slices], axis=0)),
    }
