"""One scan, or some slices, to masks, a picture and a table: no Spark, nothing to set up."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Sequence
from typing import Any

from slicemill.config import PredictConfig
from slicemill.core.scans.scan import Scan
from slicemill.core.splits import refuse_leaky
from slicemill.errors import InputError
from slicemill.experiments.score_settings import extras_of, score_settings
from slicemill.io import storage
from slicemill.io.places import Predictions
from slicemill.io.predictions import SliceRow, predicted_scan, slice_names, table_rows, write_predictions
from slicemill.io.raw.one_scan import read_one_scan
from slicemill.io.run.card import Card
from slicemill.io.run.pointer import open_model
from slicemill.io.scores.spacing import scan_spacing
from slicemill.io.scores.writer import ScanOutput
from slicemill.io.storage.uri import canonical, display
from slicemill.model.predicting.scoring import predictions, scan_output
from slicemill.model.predicting.settings import ScoreSettings
from slicemill.model.predicting.worker import load_predictor

log = logging.getLogger(__name__)

#: Fewer slices are hardly a whole scan.
_FEW = 10


def run(config: PredictConfig) -> dict[str, Any]:
    """Predict the scan, write what was predicted and return the summary.

    Raises InputError for files that are not one scan's slices, ModelFileError for a model that can't be
    trusted.
    """
    reference, places = open_model(config.model or ""), Predictions(canonical(config.out or ""))
    card = reference.card
    refuse_leaky(card.split, "--model")
    extras = extras_of(config, card)
    scan = _with_spacing(read_one_scan(config.file, config.scan_pattern, config.max_pixels), config)
    names = slice_names(scan.slices)
    output = _predict(scan, card, score_settings(config, reference.run, card))
    rows = table_rows(output, names)
    _warn(output)
    for row in rows:
        if row.tumour_pixels:
            log.info("%s: %d tumour pixels", row.name, row.tumour_pixels)
    masks = write_predictions(places, output, rows, config.format, extras)
    if config.picture and masks:
        _draw(places, output)
    return _summary(places, output, rows, masks) | {"model_id": card.model_id, "run": display(reference.run)}


def _with_spacing(scan: Scan, config: PredictConfig) -> Scan:
    """The scan with the spacing that was named; raise InputError where the clinical table does not say it."""
    sides = config.sides()
    if sides is None:
        return scan
    spacing = scan_spacing(sides, [scan.patient_id], config.clinical).get(scan.patient_id)
    if spacing is None:
        raise InputError(
            "the clinical table does not say the spacing of this scan",
            expected=f"numbers above 0 in {config.spacing}, for the patient {scan.patient_id or '(unknown)'}",
            found="none",
            advice="Give the three numbers to --spacing.",
        )
    return dataclasses.replace(scan, spacing=spacing)


def _predict(scan: Scan, card: Card, settings: ScoreSettings) -> ScanOutput:
    predictor = load_predictor(settings)
    # No trial of batch sizes: a scan does not earn its time.
    size = settings.batch_size or predictor.usual_batch_size
    sized = dataclasses.replace(settings, batch_size=size)
    ((_, _, prediction),) = predictions([(None, scan)], predictor, sized)
    output = scan_output(scan, prediction, card, settings, predictor.engine.facts)
    return dataclasses.replace(output, score=dataclasses.replace(output.score, model_id=card.model_id))


def _warn(output: ScanOutput) -> None:
    for problem in output.scan.problems:
        log.warning("%s: %s", display(problem.uri), problem.detail)
    for warning in output.score.warnings:
        log.warning("%s", warning)
    if len(output.slices) < _FEW:
        log.warning(
            "intensities are normalised over these %d slices alone: the masks may differ from those of the "
            "whole scan",
            len(output.slices),
        )


def _draw(places: Predictions, output: ScanOutput) -> None:
    # matplotlib is a second of imports, for those who want a picture.
    from slicemill.pages.figures.slices import slice_grid
    from slicemill.pages.figures.style import png

    storage.write_bytes(places.outlines, png(slice_grid(predicted_scan(output))))


def _summary(places: Predictions, output: ScanOutput, rows: Sequence[SliceRow], masks: int) -> dict[str, Any]:
    score = output.score
    return {
        "job": "predict",
        "status": "done",
        "scan_id": output.scan.scan_id,
        "slices": len(rows),
        "masks": masks,
        "slices_with_tumour": sum(bool(row.tumour_pixels) for row in rows) if masks else None,
        "tumour_pixels": score.predicted_volume,
        "tumour_ml": score.predicted_volume_ml,
        "max_probability": max(row.max_probability for row in rows),
        "dice": score.dice,
        "hd95": score.hd95,
        # Without it HD95 is in pixels.
        "spacing": score.spacing,
        "quarantined": len(output.scan.problems),
        "warnings": list(score.warnings),
        # Of files in no scan's folder nobody knows whose they are.
        "seen": score.seen if output.scan.patient_id else None,
        "threshold": score.threshold,
        "options": list(score.options),
        "table": display(places.table),
    }
