from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from lake_builder import tiny_scan, write_lake
from pyspark.sql import SparkSession
from raw_builder import image, write_scan
from run_builder import write_run

from slicemill.config import CommitteeConfig, ScoreConfig
from slicemill.core.profiles.drift import joined_profile
from slicemill.core.splits import split_hash
from slicemill.errors import ConfigError, InputError, ModelFileError
from slicemill.experiments.facts import model_facts
from slicemill.io import storage
from slicemill.io.run.card import load_card, save_card
from slicemill.io.storage.uri import canonical, join
from slicemill.model.predicting.predictor import NetworkPredictor
from slicemill.pipelines import committee, score


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    homes = [canonical(str(tmp_path_factory.mktemp("run"))) for _ in range(2)]
    for seed, home in enumerate(homes):
        card = write_run(home, seed=seed, size=32)
        save_card(home, dataclasses.replace(card, threshold=0.4 + 0.2 * seed))
    return homes


@pytest.fixture(scope="module")
def home(runs: list[str], tmp_path_factory: pytest.TempPathFactory) -> str:
    out = canonical(str(tmp_path_factory.mktemp("committee")))
    committee.run(CommitteeConfig(out=out, model=tuple(runs)))
    return out


def predicted(home: str, slices: np.ndarray) -> np.ndarray:
    numbers = np.tile(np.array([0, 255, 128, 60], np.float32), (len(slices), 3, 1))
    return NetworkPredictor.load(home, "cpu", "fp32").predict(slices, numbers)


def test_a_committee_says_the_mean_of_its_members(runs: list[str], home: str) -> None:
    slices = np.stack([image("any", number, side=40) for number in range(3)])
    first, second = (predicted(run, slices) for run in runs)

    together = predicted(home, slices)

    assert np.abs(first - second).max() > 0.01
    np.testing.assert_allclose(together, (first + second) / 2, atol=1e-6)


def test_its_card_is_of_all_members_in_any_order(runs: list[str], home: str, tmp_path: Path) -> None:
    committee.run(CommitteeConfig(out=str(tmp_path), model=(runs[1], runs[0])))

    card = load_card(home)

    assert card.model_id == load_card(canonical(str(tmp_path))).model_id
    assert card.model_id not in card.members
    assert card.members == tuple(sorted(load_card(run).model_id for run in runs))
    assert card.threshold == pytest.approx(0.5)
    assert card.architecture == "committee of 2 unet-resnet18"
    member = model_facts(runs[0], load_card(runs[0]))
    assert model_facts(home, card).parameters == 2 * member.parameters


@pytest.mark.slow
def test_score_takes_it_as_a_model(runs: list[str], home: str, spark: SparkSession, tmp_path: Path) -> None:
    raw, peaks = tmp_path / "raw", []
    write_scan(raw, "TEST_AA_0001_20200101", slices=2)
    for model in (*runs, home):
        out = tmp_path / str(len(peaks))
        summary = score.run(ScoreConfig(model=model, out=str(out), raw=(str(raw),), threshold=0.5), spark)
        peaks.append(pq.read_table(out / "slices").column("max_probability").to_numpy())

    assert (summary["members"], summary["model_id"]) == (2, load_card(home).model_id)
    assert summary["slices_per_second"] > 0
    # The highest of the means is no higher than the mean of the highest, and close to it.
    assert (peaks[2] <= (peaks[0] + peaks[1]) / 2 + 1e-4).all()
    assert (peaks[2] >= np.minimum(peaks[0], peaks[1]) - 0.2).all()


def test_a_committee_of_folds_scores_none_of_its_own_patients(
    home: str, tmp_path: Path, spark: SparkSession
) -> None:
    lake, own = canonical(str(tmp_path / "lake")), canonical(str(tmp_path / "committee"))
    folds = {"Pa": "fold-0", "Pb": "fold-1"}
    write_lake(lake, [tiny_scan("a", 2), tiny_scan("b", 2)], {"two": folds})
    for file in storage.list_files(home):
        storage.write_bytes(join(own, file.uri.removeprefix(home)), storage.read_bytes(file.uri))
    save_card(own, dataclasses.replace(load_card(home), split="two", split_hash=split_hash(folds)))

    with pytest.raises(InputError, match="together they have seen all"):
        score.run(
            ScoreConfig(model=own, out=str(tmp_path / "out"), lake=lake, split="two", part="fold-0"), spark
        )


def test_who_can_not_sit_together_is_said(runs: list[str], home: str, tmp_path: Path) -> None:
    other = canonical(str(tmp_path / "other"))
    write_run(other, seed=3, size=64)
    for models, said in (
        ((runs[0],), "two models or more"),
        ((runs[0], runs[0]), "two models or more"),
        ((runs[0], other), r"members of a committee differ in input_size; .* found 32, 64"),
        ((runs[0], home), "no committees in it"),
    ):
        with pytest.raises(ConfigError, match=said):
            committee.run(CommitteeConfig(out=str(tmp_path / "out"), model=models))


def test_a_changed_member_is_noticed(runs: list[str], tmp_path: Path) -> None:
    own = canonical(str(tmp_path))
    committee.run(CommitteeConfig(out=own, model=tuple(runs)))
    member = join(own, "members", load_card(own).members[0])
    write_run(member, seed=7, size=32)

    with pytest.raises(ModelFileError, match="other members than its card says"):
        NetworkPredictor.load(own, "cpu")


def test_a_joined_profile_is_as_wide_as_the_widest() -> None:
    def profile(low: float, high: float, scans: int, side: int) -> dict[str, object]:
        channel = {name: [low, high] for name in ("mean", "p50", "p90", "p99")}
        return {"scans": scans, "sizes": [[side, side]], "missing_sequences": {}, "channels": [channel]}

    found = joined_profile([profile(10, 20, 3, 64), profile(5, 15, 4, 32)])

    assert found["channels"][0]["p90"] == [5, 20]
    assert (found["scans"], found["sizes"]) == (4, [(32, 32), (64, 64)])
    assert joined_profile([profile(10, 20, 3, 64), {}]) == {}
