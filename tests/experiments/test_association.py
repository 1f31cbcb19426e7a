"""The tests of association: what is planted is found, and what is not comes at the nominal rate."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from slicemill.experiments.clinical.association import associate, associations


def draw(seed: int, patients: int, groups: int, shift: float) -> tuple[dict[str, float], dict[str, str]]:
    """A feature whose mean rises by `shift` from group to group, and the groups, by patient."""
    random = np.random.default_rng(seed)
    group = random.integers(0, groups, patients)
    values = random.normal(size=patients) + shift * group
    names = [f"P{index:03}" for index in range(patients)]
    return dict(zip(names, values.tolist(), strict=True)), dict(zip(names, map(str, group), strict=True))


@pytest.mark.parametrize("groups", [2, 4])
def test_a_planted_association_is_found(groups: int) -> None:
    feature, outcome = draw(1, 85, groups, 1.5)
    test = associate("volume", feature, "cluster", outcome)
    assert test is not None
    assert test.fisher_p < 0.01
    assert test.rank_p < 0.001
    assert test.effect > 0.2
    assert test.effect_low < test.effect < test.effect_high


def test_no_association_is_found_at_the_nominal_rate_over_200_draws() -> None:
    tests = [associate("volume", *_pair(seed)) for seed in range(200)]
    ranks = [test.rank_p for test in tests if test]
    fishers = [test.fisher_p for test in tests if test]
    assert len(ranks) == 200
    # The 99.9 % range of a binomial of 200 draws at 0.05; Fisher's test keeps below its level.
    most = int(stats.binom.ppf(0.9995, 200, 0.05))
    least = int(stats.binom.ppf(0.0005, 200, 0.05))
    assert least <= sum(p < 0.05 for p in ranks) <= most
    assert sum(p < 0.05 for p in fishers) <= most


def _pair(seed: int) -> tuple[dict[str, float], str, dict[str, str]]:
    feature, outcome = draw(seed, 40, 2, 0.0)
    return feature, "cluster", outcome


def test_the_median_split_of_two_groups_is_fishers_own_table() -> None:
    values = {f"P{index}": float(index) for index in range(10)}
    groups = {patient: "a" if value < 4 else "b" for patient, value in values.items()}
    test = associate("volume", values, "cluster", groups)
    assert test is not None
    # Above the median: none of the four of a, five of the six of b.
    assert test.fisher_p == pytest.approx(stats.fisher_exact([[4, 1], [0, 5]]).pvalue)
    assert test.rank_p == pytest.approx(stats.kruskal([0, 1, 2, 3], [4, 5, 6, 7, 8, 9]).pvalue)


def test_missing_data_is_counted_and_lonely_groups_are_left_out() -> None:
    feature, outcome = draw(2, 30, 2, 1.0)
    patients = sorted(feature)
    partial = {patient: outcome[patient] for patient in patients[5:]} | {patients[5]: "alone"}
    test = associate("volume", feature, "cluster", partial)
    assert test is not None
    assert (test.patients, test.missing, test.groups) == (24, 6, 2)


def test_too_few_patients_or_one_group_are_not_tested() -> None:
    feature, outcome = draw(3, 7, 2, 1.0)
    assert associate("volume", feature, "cluster", outcome) is None
    many, _ = draw(3, 20, 2, 1.0)
    assert associate("volume", many, "cluster", dict.fromkeys(many, "same")) is None


def test_corrections_are_over_all_tests() -> None:
    features = {f"f{index}": draw(index, 40, 2, 0.4)[0] for index in range(5)}
    outcomes = {"cluster": draw(0, 40, 2, 0.4)[1]}
    tests = associations(features, outcomes)
    assert len(tests) == 5
    p = np.array([test.fisher_p for test in tests])
    assert [test.fisher_bonferroni for test in tests] == pytest.approx(np.minimum(p * 5, 1))
    assert [test.fisher_false_discovery for test in tests] == pytest.approx(stats.false_discovery_control(p))


def test_the_same_seed_gives_the_same_numbers() -> None:
    feature, outcome = draw(4, 60, 4, 0.5)
    assert associate("f", feature, "o", outcome, 7) == associate("f", feature, "o", outcome, 7)
