"""`associate` on a tiny lake and its scores: features of both masks, tests, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from raw_builder import write_raw
from report_builder import DICE, write_lake, write_scores

from slicemill.config import AssociateConfig
from slicemill.core.evaluation.shape import ShapeFeatures
from slicemill.core.results.association_result import Agreement, AssociationResult
from slicemill.core.results.feature_rows import FeatureRow, feature_row
from slicemill.core.results.survival_result import SurvivalRefusal, SurvivalResult
from slicemill.errors import ConfigError, InputError
from slicemill.experiments.clinical.association import associations
from slicemill.experiments.clinical.survival import FollowUp, survival
from slicemill.experiments.clinical.target import predict_target
from slicemill.io.parquet import read_small, write_small
from slicemill.io.places import Associations, Scores
from slicemill.io.scores.tables import patient_rows
from slicemill.io.storage.uri import canonical
from slicemill.pages.association import as_html, as_markdown
from slicemill.pipelines import associate
from slicemill.schemas import FEATURES, SCORED_PATIENTS


def mark_seen(home: str, seen: Sequence[bool | None]) -> None:
    """Set what the scores say of whether the model has seen each patient."""
    rows = [replace(row, seen=value) for row, value in zip(patient_rows(home), seen, strict=True)]
    write_small(Scores(home).patients, SCORED_PATIENTS, [vars(row) for row in rows])


@pytest.fixture
def study(tmp_path: Path) -> tuple[str, str, str]:
    """A lake with a cluster column, scores of its three scans, and a folder to write to."""
    lake, scores = (canonical(str(tmp_path / name)) for name in ("lake", "scores"))
    write_lake(
        lake,
        write_raw(tmp_path / "raw"),
        clinical={"RNASeqCluster": ["1", "1", None], "age": [50, 60, 70], "death": [1, 0, None]},
    )
    write_scores(scores, lake)
    mark_seen(scores, [False, False, False])
    return lake, scores, str(tmp_path / "out")


def test_features_of_predicted_and_true_masks_are_stored_beside_each_other(
    study: tuple[str, str, str],
) -> None:
    lake, scores, out = study
    summary = associate.run(AssociateConfig(lake=lake, scores=(scores,), out=out, target=("RNASeqCluster",)))
    assert (summary["status"], summary["scans"], summary["outcomes"]) == ("done", len(DICE), 1)
    places = Associations(canonical(out))
    rows = read_small(places.features, FEATURES).to_pylist()
    true = [row for row in rows if row["mask"] == "true"]
    # Each scan has 4 and 16 tumour pixels on two of its slices.
    assert [row["volume"] for row in true] == [20.0] * len(DICE)
    assert {row["slices"] for row in true} == {2}
    result = json.loads((Path(out) / "associations.json").read_text())
    # One scan was missed altogether; three patients are too few to test.
    assert len(result["empty_predicted"]) == 1
    assert (result["predicted"], result["true"]) == ([], [])
    assert "Too few patients" in (Path(out) / "associations.md").read_text()
    assert result["true_targets"][0]["reason"].endswith("patients by class: 1: 2")
    assert "RNASeqCluster was not predicted by true masks" in (Path(out) / "associations.md").read_text()
    assert b"</html>" in (Path(out) / "associations.html").read_bytes()


def test_the_spacing_may_be_a_clinical_column(tmp_path: Path) -> None:
    lake, scores = (canonical(str(tmp_path / name)) for name in ("lake", "scores"))
    clinical = {"thickness": [5.0, 2.0, 3], "RNASeqCluster": ["1", "1", None], "scanner": ["a", "b", "c"]}
    write_lake(lake, write_raw(tmp_path / "raw"), clinical=clinical)
    write_scores(scores, lake)
    mark_seen(scores, [False, False, False])
    config = AssociateConfig(
        lake=lake, scores=(scores,), out=str(tmp_path / "out"), spacing="thickness,1,0.5"
    )
    associate.run(config)
    places = Associations(canonical(config.out))
    rows = read_small(places.features, FEATURES).to_pylist()
    true = {row["scan_id"]: row for row in rows if row["mask"] == "true"}
    # Each scan has 20 tumour pixels.
    assert [true[scan_id]["volume"] for scan_id in sorted(true)] == [20 * 0.5 * side for side in (5, 2, 3)]
    assert [true[scan_id]["spacing"][0] for scan_id in sorted(true)] == [5.0, 2.0, 3.0]
    assert "Spacing thickness x 1.0 x 0.5." in (tmp_path / "out" / "associations.md").read_text()
    with pytest.raises(ConfigError, match=r"the clinical table lacks.*RNASeqCluster, scanner, thickness"):
        associate.run(replace(config, spacing="thick,1,1"))
    with pytest.raises(InputError, match="has no distance in scanner for TEST_AA_0001"):
        associate.run(replace(config, spacing="1,scanner,1"))


def bare_result(**parts: Any) -> AssociationResult:
    """A result of 40 scans in which nothing was tested but `parts`."""
    nothing = AssociationResult(
        scans=40,
        spacing=(5.0, 1.0, 1.0),
        empty_predicted=(),
        empty_true=(),
        without_truth=(),
        agreement=(),
        predicted=(),
        true=(),
        made="2026-01-02T03:04:05+00:00",
        command="slicemill associate",
    )
    return replace(nothing, **parts)


def test_the_page_shows_every_test_with_its_effect() -> None:
    random = np.random.default_rng(0)
    patients = [f"P{index}" for index in range(40)]
    cluster = {patient: str(index % 3) for index, patient in enumerate(patients)}
    feature = {patient: int(cluster[patient]) + float(random.normal()) for patient in patients}
    shapes = {patient: np.array([value, 0.0]) for patient, value in feature.items()}
    (test,) = associations({"volume": feature}, {"RNASeqCluster": cluster})
    result = bare_result(
        agreement=(Agreement("volume", 40, 0.9, None),),
        predicted=(test,),
        predicted_targets=(predict_target("RNASeqCluster", dict(shapes), cluster),),
    )
    rows = [mask_row(patient, value) for patient, value in feature.items()]
    page, text = as_html(result, rows, {"RNASeqCluster": cluster}).decode(), as_markdown(result)
    assert page.count("RNASeqCluster") >= 1
    assert "Forest plot of 1 effects" in page
    assert "Columns predicted from shape" in page
    assert "| RNASeqCluster | predicted | 40 | 0 | 0: 14, 1: 13, 2: 13 |" in text
    assert f"| volume | RNASeqCluster | 40 | 0 | {test.fisher_p:.2g} |" in text
    assert "Too few patients" in text
    assert "Box plot of volume by RNASeqCluster, 3 groups" in page


def mask_row(patient: str, volume: float) -> FeatureRow:
    """A predicted mask's features; all but its volume are 1."""
    shape = ShapeFeatures(
        **dict.fromkeys((field.name for field in fields(ShapeFeatures)), 1.0)
        | {"volume": volume, "extent": (1.0, 1.0, 1.0), "centroid": (1.0, 1.0, 1.0), "slices": 1}
    )
    return feature_row(patient, f"scan-{patient}", "predicted", shape, [1], (1.0, 1.0, 1.0), "model")


def test_survival_is_on_the_page_with_its_curves_and_both_tests() -> None:
    random = np.random.default_rng(0)
    volumes = {f"P{index:02}": float(value) for index, value in enumerate(random.normal(size=60))}
    followed = {
        patient: FollowUp(float(random.exponential(np.exp(-volume))), index % 3 > 0)
        for index, (patient, volume) in enumerate(volumes.items())
    }
    tested = survival(
        {"volume": volumes, "sphericity": dict.fromkeys(volumes, 1.0)}, followed, "days", "dead"
    )
    result = bare_result(predicted_survival=tested, true_survival=SurvivalRefusal("8 patients are needed"))
    page, text = as_html(result, [], {}).decode(), as_markdown(result)
    assert "Survival by volume of predicted masks, 60 patients" in page
    assert "Forest plot of 1 hazard ratios by predicted masks" in page
    assert isinstance(tested, SurvivalResult)
    (test,) = tested.tests
    assert test.hazard is not None
    assert f"| volume | predicted | 60 | 0 | 40 | {test.below.median:g} | {test.above.median:g} |" in text
    assert f"| volume | predicted | {test.hazard.ratio:.2f} ({test.hazard.low:.2f} to " in text
    assert "Survival was not tested by true masks: 8 patients are needed." in text


def test_without_columns_the_page_says_why_there_is_no_survival(study: tuple[str, str, str]) -> None:
    lake, scores, out = study
    config = AssociateConfig(lake=lake, scores=(scores,), out=out)
    associate.run(config)
    text = (Path(out) / "associations.md").read_text()
    assert "it takes a column with times beside one with events, named by --time and --event" in text
    assert "the clinical columns are RNASeqCluster, age, death." in text
    associate.run(replace(config, time="age", event="death"))
    text = (Path(out) / "associations.md").read_text()
    assert "8 patients with 10 events among them are needed; 2 have a feature, age and death" in text


def test_a_column_of_survival_that_the_lake_lacks_is_named(study: tuple[str, str, str]) -> None:
    lake, scores, out = study
    config = AssociateConfig(lake=lake, scores=(scores,), out=out, time="days", event="age")
    with pytest.raises(ConfigError, match="--time is not a clinical column of the lake"):
        associate.run(config)
    with pytest.raises(InputError, match="age and age are not a time and an event for TEST"):
        associate.run(replace(config, time="age"))


@pytest.mark.parametrize("columns", [{"time": "days"}, {"event": "death01"}])
def test_a_time_without_an_event_is_refused_and_so_the_other_way(columns: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match=r"expected --time COLUMN and --event COLUMN; found --(time|event)"):
        AssociateConfig(lake="l", scores=("s",), out="o", **columns)


@pytest.mark.parametrize("seen", [True, None])
def test_masks_of_patients_that_the_model_may_have_seen_are_refused(
    study: tuple[str, str, str], seen: bool | None
) -> None:
    lake, scores, out = study
    mark_seen(scores, [False, seen, False])
    with pytest.raises(InputError, match="not known to be of a patient that the model has not seen"):
        associate.run(AssociateConfig(lake=lake, scores=(scores,), out=out))


def test_a_scan_that_two_folders_hold_is_refused(study: tuple[str, str, str]) -> None:
    lake, scores, out = study
    with pytest.raises(InputError, match="two score folders hold"):
        associate.run(AssociateConfig(lake=lake, scores=(scores, scores), out=out))


def test_a_column_that_the_lake_lacks_is_named(study: tuple[str, str, str]) -> None:
    lake, scores, out = study
    with pytest.raises(ConfigError, match="found grade"):
        associate.run(AssociateConfig(lake=lake, scores=(scores,), out=out, outcome=("grade",)))
    with pytest.raises(ConfigError, match="--target is not a clinical column"):
        associate.run(AssociateConfig(lake=lake, scores=(scores,), out=out, target=("grade",)))


@pytest.mark.parametrize("spacing", ["1,1", "thickness", "1,,1", "0,1,1", "nan,1,1", "1,1,inf"])
def test_a_spacing_is_three_numbers_above_0_or_columns(spacing: str) -> None:
    with pytest.raises(ConfigError, match="--spacing"):
        AssociateConfig(lake="l", scores=("s",), out="o", spacing=spacing)
