"""A training run on one rank, from plan to model card: what the launcher starts in every process."""

from __future__ import annotations

import dataclasses
import json
import logging
import platform
import sys
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

import safetensors.torch
import torch

from slicemill.core.evaluation.options import PredictionOptions
from slicemill.core.scans.normalise import RULE_NAMES
from slicemill.core.training.plan import CHANNELS, TrainPlan
from slicemill.core.training.pruning import gives_up
from slicemill.core.training.records import EpochLine, RankFailure, format_epochs, metric_values
from slicemill.core.training.schedule import Span
from slicemill.core.training.state import RunState
from slicemill.errors import LockLostError, SlicemillError
from slicemill.io import storage
from slicemill.io.places import Run
from slicemill.io.run.card import Card, SelfTest, sha256
from slicemill.io.run.rank_files import write_bytes, write_json
from slicemill.io.run.tracking_store import TrackedRun
from slicemill.model.device import choose_precision, see_gpus, to_device
from slicemill.model.networks.registry import RANDOM, architecture, encoder_rate
from slicemill.model.networks.weights import InitialWeights
from slicemill.model.predicting.self_test import run_self_test
from slicemill.model.training.checkpoint import checkpoints, load_checkpoint
from slicemill.model.training.initial import InitialNetwork, initial_network
from slicemill.model.training.learner import Learner, make_learner
from slicemill.model.training.loop import EpochResult, train_epoch
from slicemill.model.training.lr_finder import find_rate
from slicemill.model.training.ranks import Rank, all_reduce_mean, all_reduce_sum, preflight, process_group
from slicemill.model.training.time_budget import TimeBudget, with_sizes
from slicemill.model.training.tracking import run_trackers
from slicemill.model.training.validate import best_options, dice_by_options, validate

log = logging.getLogger(__name__)


def train(plan_json: str) -> str:
    """Train as planned; every rank calls it. Returns the run's summary as JSON, empty but on rank 0.

    A rank that fails leaves the reason at `Run.failure` and returns: the launcher reads it there, and
    neither torchrun nor Spark prints a trace or tries again.
    """
    plan = TrainPlan.from_json(plan_json)
    if not logging.getLogger().handlers:
        logging.basicConfig(stream=sys.stderr, format="%(message)s", level=logging.INFO)
    see_gpus(plan.gpus)
    # It tells at INFO, for every reader, that Parquet without its own metadata may take long.
    logging.getLogger("petastorm").setLevel(logging.WARNING)
    torch.set_num_threads(plan.threads)
    with process_group(plan.ranks) as (index, count):
        try:
            rank = preflight(index, count, plan.settings.device)
            return "{}" if _started_before(plan, rank) else json.dumps(_run(plan, rank))
        except Exception as error:
            _leave_reason(plan, index, error)
            if torch.distributed.is_initialized() and torch.cuda.is_available():
                # NCCL's other ranks may not notice a neighbour that left in good order; an exit code ends
                # them all.
                raise
            return "{}"


def _started_before(plan: TrainPlan, rank: Rank) -> bool:
    """Whether this is Spark's second try, on every rank alike.

    Spark starts all ranks again when one was killed; without --resume that would train from the beginning.
    """
    mark = Run.of(plan).started
    before = rank.first and storage.exists(mark)
    if rank.first and not before:
        write_bytes(plan, mark, b"")
    return bool(all_reduce_sum([float(before)], rank)[0])


def _leave_reason(plan: TrainPlan, rank: int, error: Exception) -> None:
    reason = RankFailure(type(error).__name__, str(error), rank)
    if isinstance(error, SlicemillError):
        reason = dataclasses.replace(
            reason,
            problem=error.problem,
            expected=_text(error.expected),
            found=_text(error.found),
            advice=error.advice,
        )
    else:
        log.exception("rank %d fails", rank)
    # A run that lost its lock leaves no reason either: the folder is another's.
    with suppress(LockLostError):
        write_json(plan, Run.of(plan).failure(rank), dataclasses.asdict(reason))


def _text(value: object) -> str | None:
    return None if value is None else str(value)


def _run(plan: TrainPlan, rank: Rank) -> dict[str, Any]:
    torch.manual_seed(plan.settings.seed)
    initial = initial_network(plan)
    network = to_device(initial.network, rank.device)
    learner = make_learner(plan, rank, network, choose_precision(plan.settings.precision, rank.device))
    if plan.settings.find_learning_rate:
        return _find_rate(with_sizes(learner, RunState())[0])
    start, best = _start(learner, initial.origin)
    learner, state = with_sizes(learner, start)
    sizes = learner.execution.sizes
    _say(rank, f"network input: {sizes.first} pixels a side at first, {sizes.final} in the end")
    budget = TimeBudget(learner, state)
    trained: list[EpochResult] = []
    with checkpoints(learner, best) as keeper, run_trackers(learner, state) as tell:
        while not gives_up(state.history, plan.floors) and (span := budget.next_span(state)) is not None:
            began = budget.seconds
            result = train_epoch(learner, state.epochs_done, span)
            trained.append(result)
            state = _finish_epoch(learner, state, result, span, budget)
            keeper.note(state)
            tell(state)
            budget.note_epoch(budget.seconds - began, span)
    by_options = _dice_by_options(learner, state, keeper.best)
    summary = _finish(learner, state, keeper.best, by_options, initial) if rank.first else {}
    if rank.first and plan.settings.track:
        home = Run.of(plan).home
        TrackedRun.of(home, "--track").log_published(home)
    seconds = sum(result.seconds for result in trained)
    rate = sum(result.slices for result in trained) / seconds if seconds else None
    return summary | {
        "slices_per_second": None if rate is None else round(rate, 2),
        "training_seconds": round(budget.seconds, 1),
    }


def _find_rate(learner: Learner) -> dict[str, Any]:
    search = find_rate(learner)
    if learner.rank.first:
        write_json(learner.plan, Run.of(learner.plan).learning_rates, dataclasses.asdict(search))
    return {"suggested_learning_rate": search.suggested, "steps": len(search.loss)}


def _start(learner: Learner, origin: InitialWeights) -> tuple[RunState, bytes]:
    """Where the run begins, and the weights to publish so far."""
    settings = learner.plan.settings
    if settings.resume:
        checkpoint = load_checkpoint(learner)
        if checkpoint is not None:
            _say(learner.rank, f"going on after epoch {checkpoint[0].epochs_done}")
            return checkpoint
        _say(learner.rank, "no checkpoint to go on from: starting at epoch 1")
    elif origin.source == RANDOM:
        _say(learner.rank, "training from scratch: the network starts from random weights")
        if settings.freeze_encoder:
            _say(learner.rank, "the frozen encoder's features are random ones")
    if not any(learner.plan.validation):
        _say(
            learner.rank,
            "the split has no validation part: the best epoch is the one of lowest training loss",
        )
    return RunState(), b""


def _say(rank: Rank, line: str) -> None:
    if rank.first:
        log.info("%s", line)


def _finish_epoch(
    learner: Learner, state: RunState, result: EpochResult, span: Span, budget: TimeBudget
) -> RunState:
    # The running statistics of batch norm: each rank has seen its own slices.
    all_reduce_mean(learner.buffers.real, learner.rank)
    if learner.average is not None:
        learner.average.take_buffers(learner.network)
    validation = validate(learner, result.image_size)
    epoch = state.epochs_done + 1
    rate = result.slices / result.seconds
    line = EpochLine(
        epoch=epoch,
        train_loss=result.loss,
        validation=validation,
        learning_rate=result.learning_rate,
        image_size=result.image_size,
        lost_steps=result.lost_steps,
        slices=result.slices,
        slices_per_second=round(rate, 2),
        seconds=round(result.seconds, 2),
    )
    after = dataclasses.replace(
        state,
        epochs_done=epoch,
        progress=span.end,
        seconds=budget.seconds,
        history=(*state.history, line),
    )
    values = metric_values(validation).items()
    metrics = "".join(f", {name} {value:.3f}" for name, value in values if isinstance(value, float))
    _say(
        learner.rank,
        f"epoch {epoch}, {span.end:.0%} of the run: loss {result.loss:.4f}{metrics}, {rate:.1f} slices/s",
    )
    if learner.rank.first:
        write_bytes(learner.plan, Run.of(learner.plan).metrics, format_epochs(after.history).encode())
    return after


def _dice_by_options(learner: Learner, state: RunState, best: bytes) -> dict[PredictionOptions, float]:
    """Validation Dice of the published epoch's weights, by the options of scoring."""
    if learner.plan.settings.task != "segment":
        return {}
    learner.published.load_state_dict(safetensors.torch.load(best))
    return dice_by_options(learner, state.published.image_size)


def _finish(
    learner: Learner,
    state: RunState,
    weights: bytes,
    by_options: Mapping[PredictionOptions, float],
    initial: InitialNetwork,
) -> dict[str, Any]:
    """Publish the chosen epoch's weights, then the card that vouches for them."""
    plan, best = learner.plan, state.published
    values = metric_values(best.validation)
    numbers = {name: value for name, value in values.items() if name != "val_dice_by_scan"}
    options = best_options(by_options, sum(map(len, plan.validation))) if by_options else PredictionOptions()
    numbers |= {"val_dice_as_scored": by_options[options]} if by_options else {}
    metrics = {"epoch": best.epoch, "train_loss": best.train_loss, **numbers}
    card = _card(learner, weights, best.image_size, metrics, options, initial)
    write_bytes(plan, Run.of(plan).weights, weights)
    write_json(plan, Run.of(plan).card, card.document())
    return {
        "epochs": state.epochs_done,
        "best_epoch": best.epoch,
        **{f"best_{name}": value for name, value in numbers.items()},
        "lost_steps": sum(line.lost_steps for line in state.history),
        "model_id": card.model_id,
    }


def _card(
    learner: Learner,
    weights: bytes,
    size: int,
    metrics: Mapping[str, float | int | None],
    options: PredictionOptions,
    initial: InitialNetwork,
) -> Card:
    plan, settings = learner.plan, learner.plan.settings
    return Card(
        task=settings.task,
        architecture=plan.network,
        channels=CHANNELS,
        normalisation=RULE_NAMES[settings.normalisation],
        input_size=size,
        threshold=settings.threshold,
        split=settings.split,
        split_hash=plan.split_hash,
        data_hash=plan.data_hash,
        training_profile=plan.training_profile,
        metrics=metrics,
        versions=_versions(),
        training={**learner.execution.settled(settings), "encoder_rate": encoder_rate(settings)},
        initial_weights=dataclasses.asdict(initial.origin),
        self_test=_self_test(learner, weights, size),
        weights_sha256=sha256(weights),
        channel_mode=settings.channels,
        options=options.names,
        patients=initial.patients,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def _self_test(learner: Learner, weights: bytes, size: int) -> SelfTest:
    """What the published weights give for the fixed input, in a network that nothing else has touched."""
    plan = learner.plan
    network = architecture(plan.network, plan.settings.task).build(dataclasses.asdict(plan.settings))
    network.load_state_dict(safetensors.torch.load(weights))
    return run_self_test(network.eval().to(learner.rank.device), len(CHANNELS), size)


def _versions() -> dict[str, str]:
    packages = ("torch", "torchvision", "petastorm", "numpy")
    return {"python": platform.python_version(), **{name: version(name) for name in packages}}
