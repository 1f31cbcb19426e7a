"""Cross-validation by patient: a training run and a scoring run a fold, and what all folds say together."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from slicemill.config import CrossvalConfig
from slicemill.core.evaluation.document import document
from slicemill.core.evaluation.rows import ScanScore
from slicemill.core.evaluation.summary import dice_summary, patient_accuracy, patient_means, slice_summary
from slicemill.errors import ConfigError, InputError
from slicemill.experiments.evaluate import slices_by_patient
from slicemill.experiments.facts import model_facts, scoring_speed
from slicemill.experiments.folds import FoldScores, fold_config, out_of_fold, train_and_score
from slicemill.experiments.leak import LeakySplit, fold_slices, leaky_split, scan_rows, truth_and_probability
from slicemill.experiments.out_of_fold import write_out_of_fold
from slicemill.experiments.training import data_hash, labelled_scans, parent_entry
from slicemill.io import storage
from slicemill.io.lake.reader import read_scans
from slicemill.io.lake.splits import Split, read_split
from slicemill.io.machine import command, describe
from slicemill.io.places import Crossval
from slicemill.io.run.card import load_card
from slicemill.io.run.tracking_store import TrackedRun, parent_run
from slicemill.io.storage.uri import canonical, display, join, parent, stored_uri
from slicemill.schemas import SCHEMA_VERSION
from slicemill.spark.session import Session
from slicemill.spark.threads import in_threads
from slicemill.types import Floats, Uri

log = logging.getLogger(__name__)

#: What crossval.json holds of a scan's row of the patients table.
_COLUMNS = (
    "patient_id",
    "scan_id",
    "dice",
    "iou",
    "slice_mean_dice",
    "hd95",
    "predicted_volume",
    "true_volume",
    "labelled_slices",
    "missed_voxels",
    "false_voxels",
    "border_voxels",
    "expected_dice",
    "model_id",
)


def run(config: CrossvalConfig, spark: Session) -> dict[str, Any]:
    """Train and score what is missing of the folds, and return the summary.

    Raises ConfigError for a split without folds, or if a fold was trained with other settings; InputError if
    a patient would be scored by a model that has seen it, twice, or not at all.
    """
    home, out = canonical(config.lake), canonical(config.out)
    split = read_split(home, config.split)
    if split.folds is None:
        raise ConfigError(
            f"the split {config.split} has no folds",
            expected="a split made by slicemill split --folds K",
            found="a split of parts",
        )
    leaky = _leaky(config, split) if config.leaky_slices else None
    with parent_run(parent_entry(config, Crossval(out).tracking)) as tracked:
        parent = tracked.run_id if tracked else None
        folds = in_threads(
            lambda fold: train_and_score(config, fold, spark, leaky, parent),
            range(split.folds),
            config.parallel,
            spark,
            threading.Event(),
        )
        result = _leaky_result(config, leaky, home, folds) if leaky else _whole(config, split, home, folds)
        storage.write_json(Crossval(out).result, result)
        summary = _summary(result, out)
        if tracked is not None:
            _track(tracked, summary, Crossval(out))
    return summary


def _whole(config: CrossvalConfig, split: Split, home: Uri, folds: Sequence[FoldScores]) -> dict[str, Any]:
    """What crossval.json says of folds that leak nothing; page and table of the worst scans are written."""
    rows = out_of_fold(home, split, folds)
    of_scan = {row.scan_id: fold.fold for fold in folds for row in fold.rows}
    result = _result(config, split.name, split.hash, home, rows, [fold.rows for fold in folds], of_scan)
    if config.task == "segment":
        return result | _page(canonical(config.out), split.name, home, folds)
    slices = {
        patient: values
        for fold in folds
        for patient, values in slices_by_patient(fold.home, fold.rows).items()
    }
    return result | _classified(slices, config)


def _track(tracked: TrackedRun, summary: Mapping[str, Any], places: Crossval) -> None:
    """Log what all folds say together, and its files."""
    names = ("mean_patient_dice", "median_patient_dice", "slice_accuracy", "slice_auroc")
    tracked.log_result(
        {f"score/{name}": summary.get(name) for name in names}, {"scores": display(places.home)}
    )
    tracked.log_files([places.result, places.page, places.worst])


def _page(out: Uri, split: str, home: Uri, folds: Sequence[FoldScores]) -> dict[str, Any]:
    """Write page and table of the worst scans; return what crossval.json says beside the numbers."""
    places = {row.scan_id: row.institution for row in read_scans(home)}
    result = write_out_of_fold(out, split, {fold.fold: fold.rows for fold in folds}, places)
    return {
        "worst": document(result.worst),
        "calibration": document(result.calibration),
        "threshold_out_of_fold": document(result.threshold),
        "triage": document(result.triage),
    }


def _leaky(config: CrossvalConfig, split: Split) -> LeakySplit:
    home, out = canonical(config.lake), canonical(config.out)
    leaky = leaky_split(home, split, labelled_scans(fold_config(config, 0)), config.seed)
    log.warning("%s leaks on purpose: slices of one patient are on both sides", leaky.name)
    storage.write_json(join(out, f"{leaky.name}.json"), leaky.record())
    return leaky


def _leaky_result(
    config: CrossvalConfig, leaky: LeakySplit, home: Uri, folds: Sequence[FoldScores]
) -> dict[str, Any]:
    by_fold = [fold_slices(fold.home, fold.rows, leaky, fold.fold) for fold in folds]
    slices = [scored for of_fold in by_fold for scored in of_fold]
    if len(slices) != len(leaky.fold_of):
        raise InputError(
            "the folds do not score each slice once", expected=len(leaky.fold_of), found=len(slices)
        )
    result = _result(
        config, leaky.name, leaky.hash, home, scan_rows(slices), list(map(scan_rows, by_fold)), {}
    )
    result["warning"] = leaky.record()["warning"]
    if config.task == "classify":
        result |= _classified(truth_and_probability(slices), config)
    return result


def _classified(slices: Mapping[str, Floats], config: CrossvalConfig) -> dict[str, Any]:
    return {
        **document(slice_summary(slices, config.threshold)),
        "patient_accuracy": patient_accuracy(slices, config.threshold),
    }


def _result(
    config: CrossvalConfig,
    split: str,
    split_hash: str,
    home: Uri,
    rows: Sequence[ScanScore],
    folds: Sequence[Sequence[ScanScore]],
    fold_of: Mapping[str, int],
) -> dict[str, Any]:
    lake_rows = read_scans(home)
    institutions = {row.scan_id: row.institution for row in lake_rows}
    patients = {row.patient_id for row in rows}
    runs = [stored_uri(fold_config(config, fold).out) for fold in range(len(folds))]
    cards = [load_card(run) for run in runs]
    return {
        "schema_version": SCHEMA_VERSION,
        **describe(),
        "command": command(),
        "data_hash": data_hash(row for row in lake_rows if row.patient_id in patients),
        "split": split,
        "split_hash": split_hash,
        "settings": {name: value for name, value in cards[0].training.items() if name not in ("fold", "out")},
        "folds": [
            {
                "fold": fold,
                "model_id": card.model_id,
                "patients": len({row.patient_id for row in of_fold}),
                "mean_patient_dice": _mean(of_fold),
                "validation": dict(card.metrics),
                **document(model_facts(run, card)),
                "scoring_slices_per_second": scoring_speed(join(parent(run), "scores")),
            }
            for fold, (run, card, of_fold) in enumerate(zip(runs, cards, folds, strict=True))
        ],
        **document(dice_summary(rows)),
        "by_institution": _by_institution(rows, institutions),
        "out_of_fold": [
            {
                **{name: getattr(row, name) for name in _COLUMNS},
                "fold": fold_of.get(row.scan_id),
                "institution": institutions[row.scan_id],
            }
            for row in rows
        ],
    }


def _mean(rows: Sequence[ScanScore]) -> float | None:
    means = list(patient_means(rows).values())
    return float(np.mean(means)) if means else None


def _by_institution(rows: Sequence[ScanScore], institutions: dict[str, str | None]) -> dict[str, Any]:
    groups: dict[str, list[ScanScore]] = {}
    for row in rows:
        groups.setdefault(institutions[row.scan_id] or "unknown", []).append(row)
    return {
        name: {"patients": len({row.patient_id for row in of_place}), "mean_patient_dice": _mean(of_place)}
        for name, of_place in sorted(groups.items())
    }


def _summary(result: dict[str, Any], out: Uri) -> dict[str, Any]:
    headline: dict[str, Any] = {"job": "crossval", "status": "done", "folds": len(result["folds"])}
    for name in ("mean_patient_dice", "median_patient_dice", "slice_accuracy", "slice_auroc"):
        if result.get(name):
            headline[name] = result[name]["value"]
            headline[f"{name}_interval"] = [result[name]["low"], result[name]["high"]]
    headline["fold_dice"] = [fold["mean_patient_dice"] for fold in result["folds"]]
    return headline | {
        "patients": len({row["patient_id"] for row in result["out_of_fold"]}),
        "out": display(out),
    }
