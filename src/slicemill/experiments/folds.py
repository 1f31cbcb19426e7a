"""The folds of a cross-validation: each is a training run and a scoring run, and none scores what it saw."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Sequence
from dataclasses import dataclass

from slicemill.config import CrossvalConfig, ScoreConfig, TrainConfig
from slicemill.config.changes import RECORDING, changed_settings
from slicemill.core.evaluation.rows import ScanScore
from slicemill.core.training.plan import TrainPlan
from slicemill.errors import ConfigError, InputError
from slicemill.experiments.leak import LeakySplit
from slicemill.experiments.scoring import score
from slicemill.experiments.training import (
    Sides,
    labelled_scans,
    launch_plan,
    make_plan,
    resolve,
    scans_by_part,
)
from slicemill.io import storage
from slicemill.io.lake.reader import read_scans
from slicemill.io.lake.splits import Split
from slicemill.io.places import Crossval, Run
from slicemill.io.run.card import card_uri, load_card
from slicemill.io.scores.tables import patient_rows
from slicemill.io.storage.uri import canonical, display, join, parent, stored_uri
from slicemill.model.networks.registry import check_settings
from slicemill.spark.session import Session
from slicemill.spark.train import threads_per_rank
from slicemill.types import Uri

log = logging.getLogger(__name__)

#: Settings that say how a fold is launched, not what comes out.
_LAUNCH = frozenset({"resume", "overwrite"}) | RECORDING


@dataclass(frozen=True)
class FoldScores:
    """A fold's scores: the number of the fold, its score folder, and rows of the patients table."""

    fold: int
    home: Uri
    rows: Sequence[ScanScore]


def fold_config(config: CrossvalConfig, fold: int) -> TrainConfig:
    """The training run of a fold: exactly what `slicemill train --fold` would run."""
    settings = {field.name: getattr(config, field.name) for field in dataclasses.fields(TrainConfig)}
    out = Crossval(canonical(config.out)).run(fold)
    return resolve(TrainConfig(**{**settings, "fold": fold, "out": out, "resume": True}))


def train_and_score(
    config: CrossvalConfig,
    fold: int,
    spark: Session,
    leaky: LeakySplit | None,
    parent: str | None = None,
) -> FoldScores:
    """Train and score one fold, as far as that is not done; `parent` is the MLflow run of the whole.

    Raises ConfigError if the fold was trained with other settings.
    """
    trained = fold_config(config, fold)
    check_settings(trained)
    threads = threads_per_rank(spark, trained.num_processes * config.parallel)
    if leaky is None:
        plan = make_plan(trained, scans_by_part(trained), threads)
    else:
        scans = labelled_scans(trained)
        plan = leaky.plan(make_plan(trained, Sides(scans, scans), threads), fold)
    if _is_trained(trained, plan):
        log.info("fold %d is trained already", fold)
    else:
        launch_plan(dataclasses.replace(plan, parent=parent), spark)
    scores = Crossval(canonical(config.out)).scores(fold)
    settings = ScoreConfig(
        model=trained.out,
        out=scores,
        lake=config.lake,
        split=config.split,
        part=f"fold-{fold}",
        batch_size=config.batch_size,
        device=config.device,
        # A fold that was trained before anything was tracked has no run to log to.
        track=parent is not None and storage.exists(Run(stored_uri(trained.out)).tracking),
    )
    score(settings, spark, leaky=leaky is not None)
    model_id = load_card(stored_uri(trained.out)).model_id
    return FoldScores(fold, scores, [row for row in patient_rows(scores) if row.model_id == model_id])


def _is_trained(config: TrainConfig, plan: TrainPlan) -> bool:
    """Whether the fold's run is finished; raise ConfigError if it is of other settings or data."""
    out = stored_uri(config.out)
    if not storage.exists(card_uri(out)):
        return False
    card = load_card(out)
    then = TrainPlan.from_json(storage.read_bytes(Run(out).plan).decode())
    before, now = (dataclasses.asdict(each.settings) for each in (then, plan))
    differences = changed_settings(before, now, _LAUNCH)
    if (card.split_hash, card.data_hash) != (plan.split_hash, plan.data_hash):
        differences.append("the lake or the split")
    if differences:
        raise ConfigError(
            f"{display(out)} was trained with other settings",
            expected="the same settings and data in every fold",
            found=f"changed: {', '.join(differences)}",
            advice="Give a new --out, or repeat the settings.",
        )
    return True


def out_of_fold(home: Uri, split: Split, folds: Sequence[FoldScores]) -> list[ScanScore]:
    """All folds' rows, each patient's from the one model that never saw that patient.

    Raises InputError if a model has seen a patient that it scored, or a scan is scored twice or not at all.
    """
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
    if overlap := sorted(training_patients & scored_patients):
        raise InputError(
            "a model scored patients that it has seen",
            expected="training and scoring apart by patient",
            found=", ".join(overlap[:3]),
            advice="Run the cross-validation again with a new --out.",
        )
