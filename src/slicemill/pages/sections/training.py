"""The training: curves and the model card."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from slicemill.io.picture import png_size
from slicemill.io.results import Results
from slicemill.io.run.card import Card
from slicemill.io.run.record import RunRecord
from slicemill.pages.figures import training as training_figures
from slicemill.pages.figures.style import Picture, data_uri, picture
from slicemill.pages.sections.blocks import (
    Block,
    Chart,
    Charts,
    Heading,
    Note,
    Section,
    TableBlock,
    TableColumn,
    words,
)

#: Pictures of predictions that are shown, and the bytes that they may have together.
MAX_EXAMPLES, EXAMPLE_BUDGET = 6, 2_000_000


def training_section(results: Results) -> Section:
    """Curves over epochs and what the model is."""
    if results.run is None:
        blocks: list[Block] = [
            Note("No training run was given (--run), so training and model card are not shown.", "missing")
        ]
    else:
        run = results.run
        blocks = [*_curves(run), *_rate_finder(run), *_examples(run), *_card(results, run)]
    return Section("training", "Training", tuple(blocks))


def _curves(run: RunRecord) -> list[Block]:
    epochs = run.epochs
    if not epochs:
        return [Note("The run has no metrics yet: no epoch has ended.", "missing")]
    charts = [
        Chart(
            picture(training_figures.loss(epochs)),
            "Mean loss of each epoch: training with augmentation, validation without.",
            "Curves of the training and validation loss.",
        )
    ]
    notes: list[Block] = []
    validation = training_figures.validation(epochs)
    if validation is not None:
        caption = "Validation after each epoch: Dice of scans, or a classifier's accuracy on slices."
        charts.insert(0, Chart(picture(validation), caption, "Curves of the validation."))
    else:
        notes.append(Note("The split has no validation part, so there is no curve of validation.", "missing"))
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


def _rate_finder(run: RunRecord) -> list[Block]:
    if run.rates is None or not run.rates.learning_rate:
        return []
    figure = training_figures.rate_finder(run.rates)
    caption = "Learning-rate finder: the loss while the rate rises from step to step, from untrained weights."
    chart = Chart(picture(figure), caption, "Curve of the loss against the learning rate.")
    return [Heading("Learning-rate finder"), Charts((chart,))]


def _examples(run: RunRecord) -> list[Block]:
    heading = Heading("Predictions as they improved")
    epochs = sorted(run.examples)
    if not epochs:
        return [heading, Note("The run holds no pictures of predictions.", "missing")]
    steps = np.linspace(0, len(epochs) - 1, min(len(epochs), MAX_EXAMPLES))
    shown_epochs = [epochs[round(step)] for step in steps]
    pictures = dict(zip(shown_epochs, run.example_files(shown_epochs), strict=True))
    fitting = _fitting(pictures)
    charts = []
    for epoch, (width, height) in sorted(fitting.items()):
        uri = data_uri("image/png", pictures[epoch])
        caption = f"Validation slices after epoch {epoch}."
        alt = f"{caption[:-1]}, with truth and prediction."
        charts.append(Chart(Picture(uri, uri, width, height), caption, alt))
    left_out = len(pictures) - len(fitting)
    notes: list[Block] = []
    if len(shown_epochs) < len(epochs):
        notes.append(Note(f"Shown are {len(shown_epochs)} of {len(epochs)} epochs, at equal distances."))
    if left_out:
        text = f"{left_out} pictures are not PNG files, or did not fit into {EXAMPLE_BUDGET / 1e6:g} MB."
        notes.append(Note(text, "missing"))
    return [heading, *notes, Charts(tuple(charts))]


def _fitting(pictures: Mapping[int, bytes]) -> dict[int, tuple[int, int]]:
    """Width and height of the pictures that fit into the budget: the last one first, then the first one."""
    epochs = sorted(pictures)
    fitting, budget = {}, EXAMPLE_BUDGET
    for epoch in dict.fromkeys([epochs[-1], epochs[0], *reversed(epochs)]):
        size = png_size(pictures[epoch])
        if size is not None and len(pictures[epoch]) <= budget:
            budget -= len(pictures[epoch])
            fitting[epoch] = size
    return fitting


def _card(results: Results, run: RunRecord) -> list[Block]:
    blocks: list[Block] = [Heading("Model card")]
    if run.card is None:
        return [*blocks, Note("The run has no model card: training has not ended.", "missing")]
    card = run.card
    if results.lake is not None and results.split is None:
        blocks.append(
            Note(f"The lake's split {card.split} is not the one that the model was trained on.", "warning")
        )
    rows = tuple((words(name), words(value)) for name, value in _facts(card).items())
    return [
        *blocks,
        TableBlock(
            "card",
            f"Model {card.model_id}.",
            (TableColumn("Field"), TableColumn("Value", breakable=True)),
            rows,
        ),
    ]


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
