"""What results tell of the model behind them: its network, its size, what it cost to train and to run."""

from __future__ import annotations

from typing import Any

from slicemill.io import storage
from slicemill.io.places import Run, Scores
from slicemill.io.run.card import Card, load_card, member_uri
from slicemill.io.run.record import read_run
from slicemill.model.networks.registry import count_parameters
from slicemill.types import Uri


def model_facts(run: Uri, card: Card) -> dict[str, Any]:
    """A trained model in a few words, ready for JSON.

    `training_seconds` are those of all passes over the training part, validation apart; None where the run's
    metrics were not copied along.
    """
    if card.members:
        return _committee_facts(run, card)
    has_metrics = storage.exists(Run(run).metrics)
    return {
        "task": card.task,
        "architecture": card.architecture,
        "split": card.split,
        "input_size": card.input_size,
        "parameters": count_parameters(card.architecture, card.task, card.training),
        "training_device": card.training.get("device"),
        "training_seconds": round(sum(line.seconds for line in read_run(run, leaky=True).epochs), 2)
        if has_metrics
        else None,
    }


def _committee_facts(run: Uri, card: Card) -> dict[str, Any]:
    homes = [member_uri(run, model_id) for model_id in card.members]
    members = [model_facts(home, load_card(home)) for home in homes]
    seconds = [member["training_seconds"] for member in members]
    return {
        **members[0],
        "architecture": card.architecture,
        "split": card.split,
        "parameters": sum(member["parameters"] for member in members),
        "training_seconds": None if None in seconds else round(sum(seconds), 2),
    }


def scoring_speed(scores: Uri, suffix: str = "") -> float | None:
    """Slices a second of the last scoring run into a folder that had something to score."""
    uri = Scores(scores).summary(suffix)
    if not storage.exists(uri):
        return None
    speed: float | None = storage.read_json(uri).get("slices_per_second")
    return speed
