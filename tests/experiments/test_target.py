"""A clinical column predicted from features: a planted one is found, an unplanted one is not."""

from __future__ import annotations

import numpy as np
import pytest

from slicemill.core.results.target_result import TargetRefusal, TargetResult
from slicemill.experiments.clinical import target
from slicemill.experiments.clinical.target import macro_auroc, out_of_fold_probability, predict_target


def patients(count: int, planted: float, seed: int) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Features and a column of three values; the first feature moves with the column by `planted`."""
    random = np.random.default_rng(seed)
    labels = {f"P{place:03d}": str(place % 3) for place in range(count)}
    features = {
        name: random.normal(size=4) + np.array([planted * int(label), 0, 0, 0])
        for name, label in labels.items()
    }
    return features, labels


def test_a_planted_column_is_found_and_chance_stays_at_one_half(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(target, "PERMUTATIONS", 20)
    found = predict_target("cluster", *patients(60, planted=2.0, seed=1))
    assert isinstance(found, TargetResult)
    assert found.auroc.value > 0.8
    assert found.p_value == pytest.approx(1 / 21)
    assert found.permuted_auroc == pytest.approx(0.5, abs=0.06)
    assert (found.patients, found.majority) == (60, pytest.approx(1 / 3))


def test_no_association_is_not_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(target, "PERMUTATIONS", 20)
    chances = []
    for seed in range(4):
        result = predict_target("cluster", *patients(45, planted=0.0, seed=seed), seed=seed)
        assert isinstance(result, TargetResult)
        chances.append(result.p_value)
    assert min(chances) > 1 / 21
    assert np.mean(chances) > 0.2


def test_a_patient_is_predicted_by_a_model_that_did_not_see_it() -> None:
    # A label that nothing explains: models that had seen their patients would remember some of it.
    random = np.random.default_rng(0)
    truth = random.integers(0, 2, 40)
    probability = out_of_fold_probability(random.normal(size=(40, 30)), truth, random)
    assert macro_auroc(probability, truth) < 0.75
    assert probability.sum(axis=1) == pytest.approx(np.ones(40))


def test_small_classes_are_left_out_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(target, "PERMUTATIONS", 1)
    features, labels = patients(30, planted=2.0, seed=2)
    labels |= {"P000": "rare"}
    del labels["P001"]
    result = predict_target("cluster", features, labels)
    assert isinstance(result, TargetResult)
    assert (result.patients, result.missing) == (28, 2)
    assert [kind.name for kind in result.classes] == ["0", "1", "2"]


def test_too_few_patients_are_refused_in_words() -> None:
    result = predict_target("grade", *patients(9, planted=2.0, seed=0))
    assert isinstance(result, TargetRefusal)
    assert "patients by class: 0: 3, 1: 3, 2: 3" in result.reason
