"""Cross-validation by patient: a training run and a scoring run a fold, and what all folds say together."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from slicemill.config import CrossvalConfig, ScoreConfig, TrainConfig
from slicemill.config.changes import changed_settings
from slicemill.core.evaluation.document import document
from slicemill.core.evaluation.rows import ScanScore
from slicemill.core.evaluation.summary import dice_summary, patient_accuracy, patient_means, slice_summary
from slicemill.core.training.plan import TrainPlan
from slicemill.errors import ConfigError, InputError
from slicemill.experiments.evaluate import slices_by_patient
from slicemill.experiments.facts import model_facts, scoring_speed
from slicemill.experiments.leak import LeakySplit, fold_slices, leaky_split, scan_rows, truth_and_probability
from slicemill.experiments.out_of_fold import write_out_of_fold
from slicemill.experiments.scoring import score
from slicemill.experiments.training import (
    data_hash,
    labelled_scans,
    launch_plan,
    make_plan,
    resolve,
    scans_by_part,
)
from slicemill.io import storage
from slicemill.io.lake.reader import read_scans
from slicemill.io.lake.splits import Split, read_split
from slicemill.io.machine import command, describe
from slicemill.io.places import Crossval, Run
from slicemill.io.run.card import card_uri, load_card
from slicemill.io.scores.tables import patient_rows
from slicemill.io.storage.uri import canonical, display, join, parent, stored_uri
from slicemill.model.networks.registry import check_settings
from slicemill.schemas import SCHEMA_VERSION
from slicemill.spark.session import Session
from slicemill.spark.train import threads_per_rank
from slicemill.types import Floats, Uri

log = logging.getLogger(__name__)

#: Settings that say how a fold is launched, not what comes out.
_LAUNCH = frozenset({"resume", "overwrite"})

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


@dataclass(frozen=True)
class _FoldScores:
    """A fold's scores: the number of the fold, its score folder, and rows of the patients table."""

    fold: int
    home: Uri
    rows: Sequence[ScanScore]


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
    with ThreadPoolExecutor(config.parallel) as pool:
        folds = list(pool.map(lambda fold: _fold(config, fold, spark, leaky), range(split.folds)))
    if leaky is not None:
        result = _leaky_result(config, leaky, home, folds)
    else:
        rows = _out_of_fold(home, split, folds)
        of_scan = {row.scan_id: fold.fold for fold in folds for row in fold.rows}
        result = _result(config, split.name, split.hash, home, rows, [fold.rows for fold in folds], of_scan)
        if config.task == "segment":
            result |= _page(out, split.name, home, folds)
        if config.task == "classify":
            slices = {
                patient: values
                for fold in folds
                for patient, values in slices_by_patient(fold.home, fold.rows).items()
            }
            result |= _classified(slices, config)
    storage.write_json(Crossval(out).result, result)
    return _summary(result, out)


def _page(out: Uri, split: str, home: Uri, folds: Sequence[_FoldScores]) -> dict[str, Any]:
    """Write page and table of the worst scans; return what crossval.json says beside the numbers."""
    places = {row.scan_id: row.institution for row in read_scans(home)}
    result = write_out_of_fold(out, split, {fold.fold: fold.rows for fold in folds}, places)
    return {
        "worst": document(result.worst),
        "calibration": document(result.calibration),
        "threshold_out_of_fold": document(result.threshold),
        "triage": document(result.triage),
    }


def fold_config(config: CrossvalConfig, fold: int) -> TrainConfig:
    """The training run of a fold: exactly what `slicemill train --fold` would run."""
    settings = {field.name: getattr(config, field.name) for field in dataclasses.fields(TrainConfig)}
    out = Crossval(canonical(config.out)).run(fold)
    return resolve(TrainConfig(**{**settings, "fold": fold, "out": out, "resume": True}))


def _fold(config: CrossvalConfig, fold: int, spark: Session, leaky: LeakySplit | None) -> _FoldScores:
    """Train and score one fold, as far as that is not done."""
    trained = fold_config(config, fold)
    check_settings(trained)
    threads = threads_per_rank(spark, trained.num_processes * config.parallel)
    if leaky is None:
        plan = make_plan(trained, scans_by_part(trained), threads)
    else:
        scans = labelled_scans(trained)
        plan = leaky.plan(make_plan(trained, {"train": scans, "val": scans}, threads), fold)
    if _is_trained(trained, plan):
        log.info("fold %d is trained already", fold)
    else:
        launch_plan(plan, spark)
    scores = Crossval(canonical(config.out)).scores(fold)
    settings = ScoreConfig(
        model=trained.out,
        out=scores,
        lake=config.lake,
        split=config.split,
        part=f"fold-{fold}",
        batch_size=config.batch_size,
        device=config.device,
    )
    score(settings, spark, leaky=leaky is not None)
    model_id = load_card(stored_uri(trained.out)).model_id
    return _FoldScores(fold, scores, [row for row in patient_rows(scores) if row.model_id == model_id])


def _leaky(config: CrossvalConfig, split: Split) -> LeakySplit:
    home, out = canonical(config.lake), canonical(config.out)
    leaky = leaky_split(home, split, labelled_scans(fold_config(config, 0)), config.seed)
    log.warning("%s leaks on purpose: slices of one patient are on both sides", leaky.name)
    storage.write_json(join(out, f"{leaky.name}.json"), leaky.record())
    return leaky


def _leaky_result(
    config: CrossvalConfig, leaky: LeakySplit, home: Uri, folds: Sequence[_FoldScores]
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


def _is_trained(config: TrainConfig, plan: TrainPlan) -> bool:
    """Whether the fold's run is finished; raise ConfigError if it is of other settings or data."""
    out = stored_uri(config.out)
    if not storage.exists(card_uri(out)):
        return False
    card = load_card(out)
    then = TrainPlan.from_json(storage.read_bytes(Run(out).plan).decode())
    before, now = (dataclasses.asdict(each.settings) for each in (then, plan))
    changed = changed_settings(before, now, _LAUNCH)
    if (card.split_hash, card.data_hash) != (plan.split_hash, plan.data_hash):
        changed.append("the lake or the split")
    if changed:
        raise ConfigError(
            f"{display(out)} was trained with other settings",
            expected="the same settings and data in every fold",
            found=f"changed: {', '.join(changed)}",
            advice="Give a new --out, or repeat the settings.",
        )
    return True


def _out_of_fold(home: Uri, split: Split, folds: Sequence[_FoldScores]) -> list[ScanScore]:
    """All folds' rows, each patient's from the one model that never saw that patient."""
    patients = {row.scan_id: row.patient_id for row in read_scans(home)}
    rows = [row for fold in folds for row in fold.rows]
    for fold in folds:
        run_uri = join(parent(fold.home), "run")
        refuse_leak(_seen(run_uri, patients), {row.patient_id for row in fold.rows})
    expected = sorted(scan for scan, patient in patients.items() if patient in split.assigned)
    scored = sorted(row.scan_id for row in rows)
    if scored != expected:
        raise InputError(
            "the folds do not score each scan of the split once",
            expected=f"{len(expected)} scans",
            found=f"{len(scored)}, {len(set(expected) - set(scored))} of them missing",
            advice="A scan that can't be scored is named in the folds' scores: mend and ingest it.",
        )
    return sorted(rows, key=lambda row: (row.patient_id, row.scan_id))


def _seen(run_uri: Uri, patients: dict[str, str]) -> set[str]:
    plan = TrainPlan.from_json(storage.read_bytes(Run(run_uri).plan).decode())
    files = [file for share in (*plan.train, *plan.validation) for file in share]
    return {patients[file.scan_id] for file in files}


def refuse_leak(training_patients: set[str], scored_patients: set[str]) -> None:
    """Raise InputError if a model scored a patient that it was trained or validated on."""
    if both := sorted(training_patients & scored_patients):
        raise InputError(
            "a model scored patients that it has seen",
            expected="training and scoring apart by patient",
            found=", ".join(both[:3]),
            advice="Run the cross-validation again with a new --out.",
        )


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
