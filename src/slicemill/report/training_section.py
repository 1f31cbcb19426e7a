"""The training: curves and the model card."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from slicemill.io.card import Card
from slicemill.report import training_figures
from slicemill.report.blocks import Block, Chart, Charts, Column, Heading, Note, Section, Table, words
from slicemill.report.inputs import Inputs, RunInput, split_of
from slicemill.report.style import picture


def training_section(inputs: Inputs) -> Section:
    """Curves over epochs and what the model is."""
    if inputs.run is None:
        blocks: list[Block] = [
            Note("No training run was given (--run), so training and model card are not shown.", "missing")
        ]
    else:
        blocks = [*_curves(inputs.run), *_card(inputs, inputs.run)]
    return Section("training", "Training", tuple(blocks))


def _curves(run: RunInput) -> list[Block]:
    epochs = run.epochs
    if not epochs:
        return [Note("The run has no metrics yet: no epoch has ended.", "missing")]
    charts = [
        Chart(
            picture(training_figures.loss(epochs)),
            "Mean training loss of each epoch.",
            "Curve of the training loss.",
        )
    ]
    notes: list[Block] = []
    if any(row.get("val_dice") is not None for row in epochs):
        charts.insert(
            0,
            Chart(
                picture(training_figures.validation_dice(epochs)),
                "Volumetric Dice of the validation scans after each epoch.",
                "Curve of the validation Dice.",
            ),
        )
    else:
        notes.append(Note("The split has no validation part, so there is no validation Dice.", "missing"))
    charts.append(
        Chart(
            picture(training_figures.learning_rate(epochs)),
            "Learning rate at the start of each epoch.",
            "Curve of the learning rate.",
        )
    )
    charts.append(
        Chart(
            picture(training_figures.speed(epochs)),
            "Slices a second while training, over all processes.",
            "Curve of the training speed.",
        )
    )
    return [Charts(tuple(charts)), *notes]


def _card(inputs: Inputs, run: RunInput) -> list[Block]:
    blocks: list[Block] = [Heading("Model card")]
    if run.card is None:
        return [*blocks, Note("The run has no model card: training has not ended.", "missing")]
    card = run.card
    if inputs.lake is not None and split_of(inputs) is None:
        blocks.append(
            Note(f"The lake's split {card.split} is not the one that the model was trained on.", "warning")
        )
    rows = tuple((words(name), words(value)) for name, value in _facts(card).items())
    return [*blocks, Table("card", f"Model {card.model_id}.", (Column("Field"), Column("Value")), rows)]


def _facts(card: Card) -> dict[str, str]:
    return {
        "task": card.task,
        "architecture": card.architecture,
        "channels": ", ".join(card.channels),
        "normalisation": card.normalisation,
        "input size": f"{card.input_size} by {card.input_size} pixels",
        "threshold": f"{card.threshold:g}",
        "test-time options": ", ".join(card.options) or "none",
        "split": f"{card.split} ({card.split_hash[:16]})",
        "data": card.data_hash[:16],
        "weights (SHA-256)": card.weights_sha256,
        "created": card.created,
        "metrics": _pairs(card.metrics),
        "settings": _pairs(
            {name: value for name, value in card.training.items() if name not in ("lake", "out")}
        ),
        "versions": _pairs(card.versions),
    }


def _pairs(values: Mapping[str, Any]) -> str:
    return (
        ", ".join(f"{name} {_shown(value)}" for name, value in sorted(values.items()) if value is not None)
        or "none"
    )


def _shown(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
