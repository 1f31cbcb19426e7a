"""The split that leaks on purpose: what it does is as said, and no other command takes it."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from lake_builder import tiny_scan, write_lake
from pyspark.sql import SparkSession

from slicemill.config import (
    CompareConfig,
    CrossvalConfig,
    ReportConfig,
    ScoreConfig,
    SplitConfig,
    TrainConfig,
)
from slicemill.core.evaluation.rows import ScoredSlice
from slicemill.core.splits import leaky_folds
from slicemill.core.training.plan import TrainPlan
from slicemill.errors import ConfigError
from slicemill.experiments import leak
from slicemill.experiments.folds import fold_config
from slicemill.experiments.training import Sides, labelled_scans, make_plan
from slicemill.io.lake.splits import read_split
from slicemill.io.storage.uri import canonical, local_path
from slicemill.model.loading.loader import read_labelled
from slicemill.pipelines import compare, crossval, report, score, split, train

SCANS = {"a": 5, "b": 4, "c": 4}
REFUSED = "leaks on purpose: slices of one patient are on both sides.*found leaky-slices-of-three"


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory, own_network: str) -> CrossvalConfig:
    home = canonical(str(tmp_path_factory.mktemp("leak") / "lake"))
    scans = [tiny_scan(name, slices, unlabelled=[0] if name == "a" else []) for name, slices in SCANS.items()]
    write_lake(home, scans, {"three": {f"P{name}": f"fold-{at}" for at, name in enumerate(SCANS)}})
    return CrossvalConfig(
        lake=home,
        split="three",
        out=canonical(str(tmp_path_factory.mktemp("crossval"))),
        epochs=1,
        image_size=32,
        batch_size=4,
        device="cpu",
        figures=False,
        leaky_slices=True,
        model=own_network,
    )


@pytest.fixture(scope="module")
def leaky(config: CrossvalConfig) -> leak.LeakySplit:
    scans = labelled_scans(fold_config(config, 0))
    return leak.leaky_split(config.lake, read_split(config.lake, "three"), scans, seed=0)


def test_it_takes_no_share_to_validate(config: CrossvalConfig) -> None:
    with pytest.raises(ConfigError, match="--val-share has no meaning over folds by random slice"):
        dataclasses.replace(config, val_share=0.1)


def test_each_labelled_slice_is_in_one_fold_and_folds_are_even(leaky: leak.LeakySplit) -> None:
    slices = [(name, index + 1) for name, count in SCANS.items() for index in range(count)]
    assert sorted(leaky.fold_of) == [one for one in slices if one != ("a", 1)]
    counts = np.bincount(list(leaky.fold_of.values()))
    assert counts.tolist() == [4, 4, 4]
    assert leaky_folds(reversed(slices), 3, 5) == leaky_folds(slices, 3, 5) != leaky_folds(slices, 3, 6)


def test_the_plan_reads_exactly_its_slices(config: CrossvalConfig, leaky: leak.LeakySplit) -> None:
    trained = fold_config(config, 1)
    scans = labelled_scans(trained)
    whole = make_plan(trained, Sides(scans, scans), threads=1)

    plan = TrainPlan.from_json(leaky.plan(whole, 1).to_json())

    assert (plan.settings.split, plan.split_hash) == ("leaky-slices-of-three", leaky.hash)
    for shares, fold in ((plan.train, 0), (plan.validation, 2)):
        read = [(one.scan_id, one.slice_index, one.mask.any()) for one in read_labelled(shares[0])]
        due = {one for one, of in leaky.fold_of.items() if of == fold}
        assert {one[:2] for one in read} == due
        assert sum(file.labelled_slices for file in shares[0]) == len(read) == 4
        assert sum(file.tumour_slices for file in shares[0]) == sum(tumour for *_, tumour in read)


def test_dice_of_a_scan_follows_from_its_slices() -> None:
    def of_fold(predicted: int, true: int, both: int) -> leak.FoldSlice:
        dice = 2 * both / (predicted + true) if predicted + true else 1.0
        scored = ScoredSlice(tumour_pixels=predicted, true_pixels=true, overlap_pixels=both, dice=dice)
        return leak.FoldSlice("P", "s", scored)

    # 3 of 4 and 5 pixels in both, then a false alarm of 2, then nothing anywhere.
    (row,) = leak.scan_rows([of_fold(4, 5, 3), of_fold(2, 0, 0), of_fold(0, 0, 0)])

    assert row.dice == pytest.approx(6 / 11)
    assert row.iou == pytest.approx(3 / 8)
    assert row.slice_mean_dice == pytest.approx((6 / 9 + 0 + 1) / 3)
    assert (row.predicted_volume, row.true_volume, row.labelled_slices) == (6, 5, 3)


def test_its_name_is_refused_as_any_other_split(config: CrossvalConfig) -> None:
    name = "leaky-slices-of-three"
    with pytest.raises(ConfigError, match=REFUSED):
        split.run(SplitConfig(lake=config.lake, name=name, folds=3))
    with pytest.raises(ConfigError, match=REFUSED):
        train.run(TrainConfig(lake=config.lake, split=name, out="out"), None)
    with pytest.raises(ConfigError, match=REFUSED):
        crossval.run(CrossvalConfig(lake=config.lake, split=name, out="out"), None)


@pytest.mark.slow
@pytest.mark.usefixtures("launched_here")
def test_the_leak_is_measured_and_refused_everywhere_else(
    config: CrossvalConfig, spark: SparkSession, leaky: leak.LeakySplit, tmp_path: Path
) -> None:
    crossval.run(config, spark)

    told = json.loads((local_path(config.out) / "crossval.json").read_text())
    assert told["split"] == "leaky-slices-of-three"
    assert "no result" in told["warning"]
    assert [(row["scan_id"], row["labelled_slices"]) for row in told["out_of_fold"]] == [
        ("a", 4),
        ("b", 4),
        ("c", 4),
    ]
    record = json.loads((local_path(config.out) / "leaky-slices-of-three.json").read_text())
    assert (record["method"], record["hash"]) == ("leaky: by random slice", leaky.hash)
    run, scores = f"{config.out}/fold-0/run", f"{config.out}/fold-0/scores"
    assert json.loads((local_path(run) / "model.json").read_text())["split"] == "leaky-slices-of-three"

    with pytest.raises(ConfigError, match=REFUSED):
        score.run(ScoreConfig(model=run, out="out", lake=config.lake, split="three", part="fold-0"), spark)
    for refused in (ReportConfig(out="out", run=run), ReportConfig(out="out", scores=scores)):
        with pytest.raises(ConfigError, match=REFUSED):
            report.run(refused)
    for uri in (config.out, run, scores):
        with pytest.raises(ConfigError, match=REFUSED):
            compare.run(CompareConfig(out=str(tmp_path), run=(f"x={uri}",)))

    compare.run(CompareConfig(out=str(tmp_path), run=(f"x={config.out}",), show_leak=True))
    assert "| LEAKING | 3 |" in (tmp_path / "compare.md").read_text()
