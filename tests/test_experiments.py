"""The committed experiments: each can be run as it is."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from slicemill.config import CrossvalConfig, TrainConfig
from slicemill.experiments.search_space import grid, read_space
from slicemill.experiments.training import resolve
from slicemill.io.settings_file import read_settings
from slicemill.model.networks.registry import check_settings

EXPERIMENTS = sorted((Path(__file__).parents[1] / "configs" / "experiments").glob("*.yaml"))
RUNS = [path for path in EXPERIMENTS if not path.stem.endswith(("-grid", "-space"))]
PLACES = {"lake": "lake", "split": "five", "out": "out"}


def _named(name: str) -> Path:
    (path,) = (path for path in EXPERIMENTS if path.stem == name)
    return path


@pytest.mark.parametrize("path", RUNS, ids=lambda path: path.stem)
def test_an_experiment_resolves_and_its_network_is_there(path: Path) -> None:
    settings = read_settings(str(path), TrainConfig)

    config = resolve(TrainConfig(**PLACES, **settings))
    CrossvalConfig(**PLACES, **settings)

    assert config.epochs
    check_settings(config)


def test_the_default_is_what_train_does_untold() -> None:
    written = resolve(TrainConfig(**PLACES, **read_settings(str(_named("default")), TrainConfig)))

    assert written == resolve(TrainConfig(**PLACES))


def test_the_spaces_can_be_searched() -> None:
    default = TrainConfig(**PLACES, model="monai-unet")
    classify = TrainConfig(**PLACES, task="classify")

    cells = grid(read_space(str(_named("classifier-grid")), classify))

    assert len(cells) == 144
    for cell in cells:
        check_settings(dataclasses.replace(classify, **cell))
    assert len(read_space(str(_named("segmentation-space")), default)) == 7
