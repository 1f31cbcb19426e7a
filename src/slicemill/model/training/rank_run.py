"""A training run on one rank, from plan to model card: what the launcher starts in every process."""

from __future__ import annotations

import dataclasses
import json
import logging
import platform
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import numpy as np
import petastorm
import safetensors.torch
import timm
import torch
import torchvision
from torch import nn

from slicemill.core.scans.normalise import NORMALISATION
from slicemill.core.training.plan import CHANNELS, TrainPlan
from slicemill.core.training.schedule import Span
from slicemill.errors import SlicemillError
from slicemill.io import storage
from slicemill.io.places import Run
from slicemill.io.run.card import Card, save_card, sha256, weights_uri
from slicemill.model.device import choose_precision, placed, see_gpus
from slicemill.model.networks.registry import RANDOM, architecture, encoder_rate, initial_weights
from slicemill.model.networks.weights import InitialWeights, initialise_encoder
from slicemill.model.training.checkpoint import Position, load_checkpoint, network_bytes, save_checkpoint
from slicemill.model.training.input_size import with_sizes
from slicemill.model.training.learner import Learner, make_learner
from slicemill.model.training.loop import EpochResult, train_epoch
from slicemill.model.training.lr_finder import find_rate
from slicemill.model.training.pace import Pace
from slicemill.model.training.ranks import Rank, average_buffers, joined, preflight, summed
from slicemill.model.training.tracking import witnessed
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
    with joined(plan.ranks) as (index, count):
        try:
            rank = preflight(index, count, plan.settings["device"])
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
    mark = Run(plan.settings["out"]).started
    before = rank.first and storage.exists(mark)
    if rank.first and not before:
        storage.write_bytes(mark, b"")
    return bool(summed([float(before)], rank)[0])


def _leave_reason(plan: TrainPlan, rank: int, error: Exception) -> None:
    reason: dict[str, Any] = {"kind": type(error).__name__, "message": str(error), "rank": rank}
    if isinstance(error, SlicemillError):
        found = {name: None if value is None else str(value) for name, value in vars(error).items()}
        reason |= {name: found[name] for name in ("what", "expected", "found", "advice")}
    if not isinstance(error, SlicemillError):
        log.exception("rank %d fails", rank)
    storage.write_json(Run(plan.settings["out"]).failure(rank), reason)


def _run(plan: TrainPlan, rank: Rank) -> dict[str, Any]:
    torch.manual_seed(int(plan.settings["seed"]))
    network, origin = _network(plan)
    network = placed(network, rank.device)
    learner = make_learner(plan, rank, network, choose_precision(plan.settings["precision"], rank.device))
    if plan.settings["find_learning_rate"]:
        return _find_rate(with_sizes(learner, Position())[0])
    learner, position = with_sizes(learner, _start(learner, origin))
    first, final = learner.plan.settings["first_size"], learner.plan.settings["image_size"]
    _say(rank, f"network input: {first} pixels a side at first, {final} in the end")
    pace = Pace(learner, position)
    trained: list[EpochResult] = []
    with witnessed(learner, position) as tell:
        while not _pruned(plan, position) and (span := pace.next_span(position)) is not None:
            began = pace.seconds
            result = train_epoch(learner, position.epochs_done, span)
            trained.append(result)
            position = _finish_epoch(learner, position, result, span, pace)
            tell(position)
            pace.note_epoch(pace.seconds - began, span)
    by_options = _dice_by_options(learner, position)
    summary = _finish(learner, position, by_options, origin) if rank.first else {}
    seconds = sum(result.seconds for result in trained)
    rate = sum(result.slices for result in trained) / seconds if seconds else None
    return summary | {
        "slices_per_second": None if rate is None else round(rate, 2),
        "training_seconds": round(pace.seconds, 1),
    }


def _pruned(plan: TrainPlan, position: Position) -> bool:
    """Whether a trial that others of its study are well ahead of is to stop here."""
    epoch = position.epochs_done
    floor = plan.floors[epoch - 1] if 0 < epoch <= len(plan.floors) else None
    return floor is not None and (position.leading_score is None or position.leading_score < floor)


def _network(plan: TrainPlan) -> tuple[nn.Module, InitialWeights]:
    """A new network for the plan, and where its weights come from."""
    chosen = architecture(plan.settings["model"], plan.settings["task"])
    network = chosen.build(plan.settings)
    return network, initialise_encoder(network, chosen, initial_weights(plan.settings))


def _find_rate(learner: Learner) -> dict[str, Any]:
    found = find_rate(learner)
    if learner.rank.first:
        storage.write_json(Run(learner.plan.settings["out"]).learning_rates, found)
    return {"suggested_learning_rate": found["suggested"], "steps": len(found["loss"])}


def _start(learner: Learner, origin: InitialWeights) -> Position:
    settings = learner.plan.settings
    if settings["resume"]:
        position = load_checkpoint(learner)
        if position is not None:
            _say(learner.rank, f"going on after epoch {position.epochs_done}")
            return position
        _say(learner.rank, "no checkpoint to go on from: starting at epoch 1")
    elif origin.source == RANDOM:
        _say(learner.rank, "training from scratch: the network starts from random weights")
        if settings["freeze_encoder"]:
            _say(learner.rank, "the frozen encoder's features are random ones")
    if not any(learner.plan.validation):
        _say(
            learner.rank,
            "the split has no validation part: the best epoch is the one of lowest training loss",
        )
    return Position()


def _say(rank: Rank, line: str) -> None:
    if rank.first:
        log.info("%s", line)


def _finish_epoch(
    learner: Learner, position: Position, result: EpochResult, span: Span, pace: Pace
) -> Position:
    average_buffers(learner.network, learner.rank)
    if learner.average is not None:
        average_buffers(learner.average.module, learner.rank)
    validation = validate(learner, result.image_size)
    epoch = position.epochs_done + 1
    rate = result.slices / result.seconds
    line: dict[str, Any] = {
        "epoch": epoch,
        "train_loss": result.loss,
        **validation.metrics,
        "learning_rate": result.learning_rate,
        "image_size": result.image_size,
        "lost_steps": result.lost_steps,
        "slices": result.slices,
        "slices_per_second": round(rate, 2),
        "seconds": round(result.seconds, 2),
    }
    after = dataclasses.replace(
        position,
        epochs_done=epoch,
        progress=span.end,
        seconds=pace.seconds,
        history=[*position.history, line],
    )
    shown = f"loss {result.loss:.4f}{validation.shown}, {rate:.1f} slices/s"
    _say(learner.rank, f"epoch {epoch}, {span.end:.0%} of the run: {shown}")
    if learner.rank.first:
        _save_epoch(learner, after)
    return after


def _save_epoch(learner: Learner, position: Position) -> None:
    run = learner.plan.settings["out"]
    if position.published["epoch"] == position.epochs_done:
        storage.write_bytes(Run(run).best_weights, network_bytes(learner.published))
    lines = "".join(json.dumps(line, sort_keys=True) + "\n" for line in position.history)
    storage.write_bytes(Run(run).metrics, lines.encode())
    save_checkpoint(learner, position)


def _dice_by_options(learner: Learner, position: Position) -> dict[tuple[str, ...], float]:
    """Validation Dice of the published epoch's weights, by the options of scoring."""
    if learner.plan.settings["task"] != "segment":
        return {}
    # Rank 0 may still be writing them.
    summed([0.0], learner.rank)
    best = storage.read_bytes(Run(learner.plan.settings["out"]).best_weights)
    learner.published.load_state_dict(safetensors.torch.load(best))
    return dice_by_options(learner, position.published["image_size"])


def _finish(
    learner: Learner,
    position: Position,
    by_options: Mapping[tuple[str, ...], float],
    origin: InitialWeights,
) -> dict[str, Any]:
    """Publish the chosen epoch's weights, then the card that vouches for them."""
    plan, settings = learner.plan, learner.plan.settings
    best = position.published
    numbers = {name: best[name] for name in best if name.startswith("val_") and name != "val_dice_by_scan"}
    options = best_options(by_options, sum(map(len, plan.validation))) if by_options else ()
    numbers |= {"val_dice_as_scored": by_options[options]} if by_options else {}
    weights = storage.read_bytes(Run(settings["out"]).best_weights)
    card = Card(
        task=settings["task"],
        architecture=settings["model"],
        channels=CHANNELS,
        normalisation=NORMALISATION,
        input_size=best["image_size"],
        threshold=settings["threshold"],
        split=settings["split"],
        split_hash=plan.split_hash,
        data_hash=plan.data_hash,
        training_profile=plan.training_profile,
        metrics={"epoch": best["epoch"], "train_loss": best["train_loss"], **numbers},
        versions=_versions(),
        training={
            **settings,
            "encoder_rate": encoder_rate(settings),
            "precision": learner.precision,
            "device": learner.rank.device.type,
        },
        initial_weights=dataclasses.asdict(origin),
        weights_sha256=sha256(weights),
        channel_mode=settings["channels"],
        options=options,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    storage.write_bytes(weights_uri(settings["out"]), weights)
    save_card(settings["out"], card)
    return {
        "epochs": position.epochs_done,
        "best_epoch": best["epoch"],
        **{f"best_{name}": value for name, value in numbers.items()},
        "lost_steps": sum(line["lost_steps"] for line in position.history),
        "model_id": card.model_id,
    }


def _versions() -> dict[str, str]:
    found = {"torch": torch, "torchvision": torchvision, "timm": timm, "petastorm": petastorm, "numpy": np}
    return {
        "python": platform.python_version(),
        **{name: str(module.__version__) for name, module in found.items()},
    }
