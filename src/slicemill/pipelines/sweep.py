"""A search for the best settings: trials are claimed, trained by the jobs' own code, and entered."""

from __future__ import annotations

import dataclasses
import logging
import threading
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from slicemill.config import SweepConfig, TrainConfig
from slicemill.config.changes import RECORDING, changed_settings
from slicemill.core.training.pruning import floors, gives_up
from slicemill.core.training.selection import run_score
from slicemill.core.training.trials import TrialRow
from slicemill.errors import ConfigError, InputError, MachineError, TrainingError
from slicemill.experiments.search_space import Dimension, Range, as_json, read_space
from slicemill.experiments.training import (
    data_hash,
    launch_plan,
    make_plan,
    parent_entry,
    resolve,
    scans_by_part,
)
from slicemill.io import storage
from slicemill.io.machine import command, describe
from slicemill.io.places import Run
from slicemill.io.run.record import read_run
from slicemill.io.run.tracking_store import TrackedRun, parent_run
from slicemill.io.settings_file import write_settings
from slicemill.io.storage.uri import canonical, display, join
from slicemill.model.networks.registry import check_settings
from slicemill.pages.figures.style import png
from slicemill.pages.figures.sweep import history_figure, importance_figure, slices_figure
from slicemill.schemas import SCHEMA_VERSION
from slicemill.spark.session import Session
from slicemill.spark.threads import in_threads
from slicemill.spark.train import threads_per_rank
from slicemill.types import Uri

if TYPE_CHECKING:
    from slicemill.experiments.study import Claim, Study

log = logging.getLogger(__name__)

#: Trials in a row that may fail before the study stops: then it is not their settings.
_FAILURES = 3

#: Settings of a training run that are no part of its result, or a place.
_NOT_KEPT = frozenset(
    {"lake", "split", "out", "resume", "overwrite", "fold", "val_share", "device"} | RECORDING
)


def run(config: SweepConfig, spark: Session) -> dict[str, Any]:
    """Work on the study until its budget is spent, write what it found, and return the summary.

    Raises ConfigError for a study that began with other settings, MachineError without Optuna, TrainingError
    if trial after trial fails, and what a training run raises for wrong input.
    """
    began = time.monotonic()
    base = base_config(config)
    space = read_space(config.space, base)
    _check_same(config, base, space)
    study = _study(config, base, space)
    deadline = None if config.minutes is None else began + 60 * config.minutes

    with parent_run(parent_entry(config, join(canonical(config.out), "tracking.json"))) as tracked:
        parent = tracked.run_id if tracked else None

        interrupted = threading.Event()

        def work(worker: int) -> None:
            while not interrupted.is_set() and (deadline is None or time.monotonic() < deadline):
                with study.claimed(config.trials) as claim:
                    if claim is None:
                        return
                    _try(config, base, study, claim, spark, parent, interrupted)

        in_threads(work, range(config.parallel), config.parallel, spark, interrupted)
        summary = _publish(config, base, space, study)
        if tracked is not None:
            _track(tracked, summary, canonical(config.out))
    return summary


def _track(tracked: TrackedRun, summary: Mapping[str, Any], out: Uri) -> None:
    """Log the best trial so far, how many there were, and the study's files."""
    numbers = {name: summary[name] for name in ("best_score", "trials", "complete", "pruned", "failed")}
    best = {f"best.{name}": str(value) for name, value in (summary["best"] or {}).items()}
    trial = {} if summary["best_trial"] is None else {"best_trial": str(summary["best_trial"])}
    tracked.log_result(numbers, {**best, **trial})
    tracked.log_files([join(out, "sweep.json"), join(out, "best.yaml")])
    tracked.log_files([file.uri for file in storage.list_or_none(join(out, "figures"))], "figures")


def base_config(config: SweepConfig) -> TrainConfig:
    """The training run that trials begin from."""
    settings = {field.name: getattr(config, field.name) for field in dataclasses.fields(TrainConfig)}
    base = resolve(TrainConfig(**{**settings, "figures": False, "resume": True}))
    if not scans_by_part(base).val:
        raise InputError(
            f"the split {base.split} has nothing to judge trials by",
            expected="labelled slices of val patients",
            found="none",
        )
    return base


def _study(config: SweepConfig, base: TrainConfig, space: Sequence[Dimension]) -> Study:
    try:
        from slicemill.experiments.study import Study
    except ImportError as error:
        raise MachineError(
            "sweep needs a package that is not there",
            expected="optuna",
            found="none",
            advice="pip install 'slicemill[sweep]'.",
        ) from error
    return Study(canonical(config.out), space, dataclasses.asdict(base), config.sampler, config.seed)


def _check_same(config: SweepConfig, base: TrainConfig, space: Sequence[Dimension]) -> None:
    """Store what the study is about; raise ConfigError if it began as another."""
    uri = join(canonical(config.out), "study.json")
    now: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "settings": {name: value for name, value in dataclasses.asdict(base).items() if name != "device"},
        "space": as_json(space),
        "rules": {name: getattr(config, name) for name in ("sampler", "prune", "prune_after")},
    }
    if not storage.exists(uri):
        storage.write_json(uri, now)
        return
    then = storage.read_json(uri)
    differences = changed_settings(then["settings"], now["settings"], RECORDING)
    differences += [f"rules {name}" for name in changed_settings(then["rules"], now["rules"])]
    if then["space"] != now["space"]:
        differences.append("the search space")
    if differences:
        raise ConfigError(
            f"{display(canonical(config.out))} holds a study of other settings",
            expected="the same settings and space in every trial",
            found=f"changed: {', '.join(differences)}",
            advice="Give a new --out, or repeat the settings.",
        )


def _try(
    config: SweepConfig,
    base: TrainConfig,
    study: Study,
    claim: Claim,
    spark: Session,
    parent: str | None,
    interrupted: threading.Event,
) -> None:
    """Train one trial, as far as it is not, and enter it; an interrupted one is left to the next worker."""
    out = join(study.trial_home(claim.number), "run")
    trained = dataclasses.replace(base, **claim.settings, out=out)
    check_settings(trained)
    wording = ", ".join(f"{name} {value}" for name, value in claim.settings.items())
    log.info("trial %d%s: %s", claim.number, " is taken up again" if claim.taken_over else "", wording)
    threads = threads_per_rank(spark, trained.num_processes * config.parallel)
    plan = dataclasses.replace(make_plan(trained, scans_by_part(trained), threads), parent=parent)
    epochs = trained.epochs or 0
    if config.prune:
        plan = dataclasses.replace(plan, floors=floors(study.finished_scores(), epochs, config.prune_after))
    try:
        launch_plan(plan, spark)
    except TrainingError as error:
        if interrupted.is_set():
            raise
        log.error("trial %d failed: %s", claim.number, error)
        study.fail(claim.number, str(error))
        if study.failed_last(_FAILURES):
            raise
        return
    history = read_run(out).epochs
    value, pruned = run_score(history), gives_up(history, plan.floors)
    if value is None:
        raise TrainingError(
            f"trial {claim.number} left no epochs", expected="metrics of its run", found="none"
        )
    log.info("trial %d: %.4f%s", claim.number, value, ", given up" if pruned else "")
    study.finish(claim.number, [line.score for line in history], value, pruned)
    # A study of many trials is many gigabytes otherwise; a finished one needs no going on.
    for uri in (Run(out).last_checkpoint, Run(out).best_weights):
        storage.remove(uri)


def _publish(
    config: SweepConfig, base: TrainConfig, space: Sequence[Dimension], study: Study
) -> dict[str, Any]:
    """Write sweep.json, the figures and best.yaml; return the summary."""
    out = canonical(config.out)
    rows = [study.row(trial) for trial in study.trials()]
    finished = [row for row in rows if row.score is not None]
    # What was given up may have published pictures of half the size, whose score is not to be compared.
    complete = [row for row in finished if row.state == "complete"]
    best = max(complete, key=lambda row: (row.score or 0.0, -row.number), default=None)
    importance = study.importance()
    stored = {
        "schema_version": SCHEMA_VERSION,
        **describe(),
        "command": command(),
        "data_hash": data_hash(scans_by_part(base).rows),
        "split": base.split,
        "seconds": round(sum(row.seconds for row in rows), 1),
        "best": best and dataclasses.asdict(best),
        "importance": importance,
        "trials": [dataclasses.asdict(row) for row in rows],
    }
    storage.write_json(join(out, "sweep.json"), stored)
    if best is not None:
        _write_best(config, base, best, len(rows))
        _draw(out, importance, space, finished)
    states = [row.state for row in rows]
    return {
        "job": "sweep",
        "status": "done",
        "trials": len(rows),
        **{state: states.count(state) for state in ("complete", "pruned", "failed", "running")},
        "best_trial": best and best.number,
        "best_score": best and best.score,
        "best": best and best.settings,
        "out": display(out),
    }


def _write_best(config: SweepConfig, base: TrainConfig, best: TrialRow, trials: int) -> None:
    defaults = {field.name: field.default for field in dataclasses.fields(TrainConfig)}
    settings = {**dataclasses.asdict(base), **best.settings}
    recipe = {
        name: value
        for name, value in settings.items()
        if name not in _NOT_KEPT and (value != defaults[name] or name in best.settings)
    }
    timestamp = datetime.now(UTC).isoformat(timespec="seconds")
    comment = (
        f"Trial {best.number} of {trials}, {timestamp}: {best.score:.4f} on the validation part of "
        f"{base.split}.\nThat it is the best of {trials} flatters it: judge it on other patients.\n"
        f"{command()}"
    )
    write_settings(join(canonical(config.out), "best.yaml"), recipe, comment)


def _draw(
    out: Uri, importance: Mapping[str, float], space: Sequence[Dimension], finished: Sequence[TrialRow]
) -> None:
    ranges = [dimension for dimension in space if isinstance(dimension, Range)]
    logarithmic = frozenset(dimension.name for dimension in ranges if dimension.log)
    figures = {
        "history": history_figure(finished),
        "importance": importance_figure(importance),
        "slices": slices_figure(finished, [dimension.name for dimension in space], logarithmic),
    }
    for name, figure in figures.items():
        storage.write_bytes(join(out, "figures", f"{name}.png"), png(figure))
