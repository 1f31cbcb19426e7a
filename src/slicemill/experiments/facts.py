"""What results tell of the model behind them: its network, its size, what it cost to train and to run."""

from __future__ import annotations

import dataclasses

from slicemill.core.results.side_by_side import ModelFacts
from slicemill.io import storage
from slicemill.io.places import Run, Scores
from slicemill.io.run.card import Card, load_card, member_uri
from slicemill.io.run.record import read_run
from slicemill.io.run.weights import count_parameters
from slicemill.types import Uri


def model_facts(run: Uri, card: Card) -> ModelFacts:
    """A trained model, or a committee of them, in a few words."""
    if card.members:
        return _committee_facts(run, card)
    seconds = None
    if storage.exists(Run(run).metrics):
        seconds = round(sum(line.seconds for line in read_run(run, leaky=True).epochs), 2)
    return ModelFacts(
        task=card.task,
        architecture=card.architecture,
        split=card.split,
        input_size=card.input_size,
        parameters=count_parameters(run, card),
        training_device=card.training.get("device"),
        training_seconds=seconds,
    )


def _committee_facts(run: Uri, card: Card) -> ModelFacts:
    homes = [member_uri(run, model_id) for model_id in card.members]
    members = [model_facts(home, load_card(home)) for home in homes]
    return dataclasses.replace(
        members[0],
        architecture=card.architecture,
        split=card.split,
        parameters=sum(member.parameters for member in members),
        training_seconds=total_seconds([member.training_seconds for member in members]),
    )


def total_seconds(parts: list[float | None]) -> float | None:
    """The sum; None where a part is not known."""
    measured = [seconds for seconds in parts if seconds is not None]
    return round(sum(measured), 2) if len(measured) == len(parts) else None


def scoring_speed(scores: Uri, suffix: str = "") -> float | None:
    """Slices a second of the last scoring run into a folder that had something to score."""
    uri = Scores(scores).summary(suffix)
    if not storage.exists(uri):
        return None
    speed: float | None = storage.read_json(uri).get("slices_per_second")
    return speed
