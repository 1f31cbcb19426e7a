"""What training does with a folder that holds a run already."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from lake_builder import tiny_scan, write_lake

from slicemill.config import CrossvalConfig, SweepConfig, TrainConfig
from slicemill.errors import BusyError, ConfigError
from slicemill.experiments.training import launch_plan, make_plan, resolve, scans_by_part
from slicemill.io import storage
from slicemill.io.places import Run
from slicemill.io.run.card import load_card
from slicemill.io.storage.lock import sole_writer
from slicemill.io.storage.uri import canonical, join

pytestmark = pytest.mark.usefixtures("launched_here")


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> str:
    home = canonical(str(tmp_path_factory.mktemp("runs") / "lake"))
    write_lake(home, [tiny_scan("a", 4), tiny_scan("b", 4)], {"demo": {"Pa": "train", "Pb": "val"}})
    return home


@pytest.fixture
def config(lake: str, own_network: str, tmp_path: Path) -> TrainConfig:
    return TrainConfig(
        lake=lake,
        split="demo",
        out=str(tmp_path / "run"),
        model=own_network,
        epochs=1,
        image_size=32,
        batch_size=4,
        device="cpu",
    )


def _train(config: TrainConfig) -> str:
    resolved = resolve(config)
    return str(launch_plan(make_plan(resolved, scans_by_part(resolved), threads=1), None)["model_id"])


def test_a_finished_run_is_neither_wiped_nor_mixed_with_another(config: TrainConfig) -> None:
    first, run = _train(config), Run(canonical(config.out))
    other = dataclasses.replace(config, seed=1)

    with pytest.raises(ConfigError, match=r"holds a finished run.*--resume.*--overwrite"):
        _train(other)
    assert load_card(run.home).model_id == first
    assert _train(dataclasses.replace(config, resume=True)) == first

    stale = join(run.figures, "examples-epoch-009.png")
    storage.write_bytes(stale, b"of the first run")
    second = _train(dataclasses.replace(other, overwrite=True))

    assert load_card(run.home).model_id == second != first
    assert not storage.exists(stale)


def test_a_run_that_was_cut_off_begins_again_without_its_leftovers(config: TrainConfig) -> None:
    run = Run(canonical(config.out))
    for uri in (run.last_checkpoint, join(run.figures, "examples-epoch-007.png")):
        storage.write_bytes(uri, b"left by a killed run")

    _train(config)

    assert [file.uri for file in storage.list_files(run.figures)] == [run.curves, run.examples(1)]


def test_two_trainings_into_one_folder_are_refused(config: TrainConfig) -> None:
    home = canonical(config.out)
    with sole_writer(home, "another"), pytest.raises(BusyError, match="another run is writing to"):
        _train(config)

    assert not storage.exists(Run(home).plan)


def test_resume_and_overwrite_exclude_each_other(config: TrainConfig) -> None:
    with pytest.raises(ConfigError, match="--resume and --overwrite exclude each other"):
        dataclasses.replace(config, resume=True, overwrite=True)


def test_folds_and_trials_are_never_overwritten() -> None:
    with pytest.raises(ConfigError, match="--overwrite has no meaning over all folds"):
        CrossvalConfig(lake="lake", split="five", out="out", overwrite=True)
    with pytest.raises(ConfigError, match="--overwrite has no meaning in a study"):
        SweepConfig(lake="lake", split="parts", out="out", space="space", trials=1, overwrite=True)
