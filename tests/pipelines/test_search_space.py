from __future__ import annotations

from pathlib import Path

import pytest

from slicemill.config import TrainConfig
from slicemill.errors import ConfigError
from slicemill.experiments.search_space import Categorical, Range, grid, read_space

BASE = TrainConfig(lake="lake", split="split", out="out", model="monai-unet")


def space(tmp_path: Path, text: str) -> tuple[Categorical | Range, ...]:
    path = tmp_path / "space.yaml"
    path.write_text(text)
    return read_space(str(path), BASE)


def test_lists_and_ranges_are_read_the_model_first(tmp_path: Path) -> None:
    text = "learning_rate: {low: 1e-4, high: 1e-2, log: true}\nfilters: {low: 8, high: 32, step: 8}\n"

    rate, filters = space(tmp_path, text)
    model, *_ = space(tmp_path, text + "model: [monai-unet, unet-resnet18]\n")

    assert rate == Range("learning_rate", 1e-4, 1e-2, log=True)
    assert (filters, filters.whole, rate.whole) == (Range("filters", 8, 32, step=8), True, False)
    assert model == Categorical("model", ("monai-unet", "unet-resnet18"))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("learning_rat: [1]", "names settings that a study can not search.*found learning_rat"),
        ("lake: [a, b]", "names settings that a study can not search.*found lake"),
        ("val_share: [0.1, 0.2]", "names settings that a study can not search.*found val_share"),
        ("learning_rate: []", "neither a list nor a range"),
        ("learning_rate: {low: 1}", "neither a list nor a range"),
        ("loss: {low: 1, high: 2}", "neither a list nor a range"),
        ("loss: [dice]", "--loss is out of range"),
        ("precision: [fp8]", "the setting precision is of another type"),
        ("learning_rate: {low: 2, high: 1}", "is not a range"),
        ("learning_rate: {low: 0, high: 1, log: true}", "is not a range"),
        ("dropout: {low: 0, high: 1}", "--dropout is out of range"),
        ("batch_size: [8, 0]", "--batch-size is out of range"),
    ],
)
def test_a_wrong_space_is_named_before_any_trial(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        space(tmp_path, text)


def test_a_grid_has_every_combination_once(tmp_path: Path) -> None:
    found = grid(space(tmp_path, "augment: [true, false]\nfilters: {low: 8, high: 24, step: 8}\n"))

    assert [(one["augment"], one["filters"]) for one in found] == [
        (augment, filters) for augment in (True, False) for filters in (8, 16, 24)
    ]
    with pytest.raises(ConfigError, match="can't go through dropout"):
        grid(space(tmp_path, "dropout: {low: 0, high: 0.5}"))
