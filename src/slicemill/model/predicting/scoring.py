"""From decoded scans to their predicted masks and scores."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from slicemill.core.engine import EngineFacts
from slicemill.core.evaluation.confidence import expected_dice, level_counts, probability_counts
from slicemill.core.evaluation.dice import dice_from_counts, scan_scores, slice_counts
from slicemill.core.evaluation.mistakes import mistakes
from slicemill.core.evaluation.rows import ScanScore, ScoredSlice
from slicemill.core.evaluation.seen import was_seen
from slicemill.core.evaluation.surface import CUBES
from slicemill.core.evaluation.triage import look_first
from slicemill.core.profiles.doubts import scan_doubts
from slicemill.core.profiles.drift import COMPARED, Appearance, drift_warnings
from slicemill.core.profiles.sequences import (
    SliceChannels,
    missing_sequences,
    scan_missing_sequences,
    slice_channels,
)
from slicemill.core.profiles.statistics import statistics
from slicemill.core.scans.scan import Scan, Slice
from slicemill.io.run.card import Card
from slicemill.io.scores.writer import ScanOutput
from slicemill.model.predicting.batch_size import batch_size_for
from slicemill.model.predicting.batches import Prediction, predict_scans
from slicemill.model.predicting.cleaning import largest_component
from slicemill.model.predicting.predictor import NetworkPredictor
from slicemill.model.predicting.settings import ScoreSettings
from slicemill.types import ScanMasks, SliceMask, Spacing

_T = TypeVar("_T")

#: Decimals of a stored probability: what lies below differs between processors and processes.
_DECIMALS = 5


def predictions(
    scans: Iterable[tuple[_T, Scan]], predictor: NetworkPredictor, settings: ScoreSettings
) -> Iterator[tuple[_T, Scan, Prediction]]:
    """Predict scans as the settings say; see `predict_scans`."""
    batch_size = settings.batch_size or batch_size_for(predictor)
    return predict_scans(scans, predictor, batch_size, settings.threshold, settings.options)


def scan_output(
    scan: Scan, prediction: Prediction, card: Card, settings: ScoreSettings, engine: EngineFacts
) -> ScanOutput:
    """A predicted scan compared with its truth where there is one, and with the training scans."""
    masks = prediction.masks
    if masks is not None and settings.options.largest_component:
        masks = largest_component(masks)
    planes = [None] * len(scan.slices) if masks is None else list(masks)
    slices = tuple(
        _scored_slice(source, mask, float(peak))
        for source, mask, peak in zip(scan.slices, planes, prediction.peaks, strict=True)
    )
    score = replace(_scan_score(scan, masks, card, settings), **_engine_columns(engine))
    if masks is not None and prediction.levels is not None:
        score = replace(score, **_confidence(scan, masks, prediction.levels))
    return ScanOutput(scan, masks, slices, score, prediction.levels)


def _engine_columns(engine: EngineFacts) -> dict[str, Any]:
    parity = engine.parity
    if parity is None:
        return {"engine": str(engine)}
    return {
        "engine": str(engine),
        "engine_difference": parity.largest_difference,
        "engine_mask_share": parity.mask_share,
    }


def _confidence(scan: Scan, masks: ScanMasks, levels: npt.NDArray[np.uint8]) -> dict[str, Any]:
    """Numbers of the scan's row that come from its probabilities, `levels` with axes (S, H, W)."""
    slices = zip(levels, masks, scan.slices, strict=True)
    counts = np.sum([level_counts(plane, mask, source.mask) for plane, mask, source in slices], axis=0)
    expected = round(expected_dice(counts), _DECIMALS)
    reasons = look_first(expected, int(np.count_nonzero(masks)), scan_missing_sequences(scan))
    numbers: dict[str, Any] = {"expected_dice": expected, "look_first": reasons}
    if any(source.mask is not None for source in scan.slices):
        binned = probability_counts(counts)
        numbers |= {"voxels_by_probability": binned.voxels, "tumour_by_probability": binned.tumour}
    return numbers


def _scored_slice(source: Slice, mask: SliceMask | None, peak: float) -> ScoredSlice:
    overlap, dice = None, None
    if mask is not None and source.mask is not None:
        counts = slice_counts(mask[None], source.mask[None])[0]
        overlap, dice = int(counts[0]), dice_from_counts(*map(int, counts))
    return ScoredSlice(
        slice_index=source.slice_index,
        height=source.image.shape[0],
        width=source.image.shape[1],
        mask=None if mask is None else np.packbits(mask).tobytes(),
        tumour_pixels=_area(mask),
        true_pixels=_area(source.mask),
        overlap_pixels=overlap,
        max_probability=round(peak, _DECIMALS),
        dice=dice,
    )


def _area(mask: SliceMask | None) -> int | None:
    return None if mask is None else int(np.count_nonzero(mask))


def _scan_score(scan: Scan, predicted: ScanMasks | None, card: Card, settings: ScoreSettings) -> ScanScore:
    labelled = [position for position, source in enumerate(scan.slices) if source.mask is not None]
    volume = 0 if predicted is None else int(np.count_nonzero(predicted))
    numbers: dict[str, Any] = {"predicted_volume": None if card.task == "classify" else volume}
    if labelled:
        true = np.stack([source.mask for source in scan.slices if source.mask is not None])
        numbers["true_volume"] = int(np.count_nonzero(true))
        if predicted is not None:
            agreement = scan_scores(predicted[labelled], true, scan.spacing or CUBES)
            numbers |= {name: getattr(agreement, name) for name in ("dice", "iou", "slice_mean_dice", "hd95")}
            errors = mistakes(predicted[labelled], true)
            numbers |= {f"{name}_voxels": getattr(errors, name) for name in ("missed", "false", "border")}
    if scan.spacing is not None:
        numbers |= _millilitres(numbers, scan.spacing)
    channels = [slice_channels(source) for source in scan.slices]
    appearance = _appearance(scan, channels) if scan.slices else None
    if appearance is not None:
        numbers |= {f"channel_{name}": tuple(getattr(appearance, name)) for name in COMPARED}
    return ScanScore(
        patient_id=scan.patient_id,
        scan_id=scan.scan_id,
        slices=len(scan.slices),
        labelled_slices=len(labelled),
        warnings=tuple(_warnings(scan, channels, appearance, card, len(labelled))),
        options=settings.options.names,
        threshold=settings.threshold,
        spacing=scan.spacing,
        seen=was_seen(card.patients, scan.patient_id),
        **numbers,
    )


def _millilitres(volumes: Mapping[str, Any], spacing: Spacing) -> dict[str, float]:
    """Volumes in voxels as millilitres, of those that are known."""
    voxel = float(np.prod(spacing)) / 1000
    names = ("predicted_volume", "true_volume")
    return {f"{name}_ml": round(volumes[name] * voxel, 6) for name in names if volumes.get(name) is not None}


def _warnings(
    scan: Scan, channels: Sequence[SliceChannels], appearance: Appearance | None, card: Card, labelled: int
) -> Iterator[str]:
    if appearance is not None:
        yield from drift_warnings(appearance, card.training_profile)
        yield from scan_doubts(scan, channels).sentences
    else:
        yield "no usable slice"
    rejected = sum(source.mask_status == "rejected" for source in scan.slices)
    if rejected:
        yield f"{rejected} bad masks left out of the truth"
    if 0 < labelled < len(scan.slices):
        total = len(scan.slices)
        yield f"{total - labelled} of {total} slices have no usable mask: Dice is of the other {labelled}"
    if scan.problems:
        yield f"{len(scan.problems)} files set aside"


def _appearance(scan: Scan, channels: Sequence[SliceChannels]) -> Appearance:
    height, width, _ = scan.slices[0].image.shape
    by_name = statistics(np.sum([source.histogram for source in scan.slices], axis=0)).by_name
    numbers = {name: by_name[name].tolist() for name in COMPARED}
    return Appearance(height, width, missing_sequences(channels), **numbers)
