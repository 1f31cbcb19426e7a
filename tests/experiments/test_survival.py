"""Survival against a feature: a planted hazard is found, none at the nominal rate, and known answers."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from slicemill.core.results.survival_result import SurvivalRefusal, SurvivalResult, SurvivalTest
from slicemill.errors import InputError
from slicemill.experiments.clinical.survival import FollowUp, follow_ups, survival, survival_curve


def draw(seed: int, patients: int, log_ratio: float) -> tuple[dict[str, float], dict[str, FollowUp]]:
    """A feature and follow-ups by patient: the hazard grows by exp(log_ratio) a standard deviation."""
    random = np.random.default_rng(seed)
    feature = random.normal(size=patients)
    death = random.exponential(np.exp(-log_ratio * feature))
    last_seen = random.exponential(2.0, size=patients)
    names = [f"P{index:03}" for index in range(patients)]
    followed = [
        FollowUp(float(min(pair)), bool(pair[0] <= pair[1])) for pair in zip(death, last_seen, strict=True)
    ]
    return dict(zip(names, feature.tolist(), strict=True)), dict(zip(names, followed, strict=True))


def only_test(feature: dict[str, float], followed: dict[str, FollowUp]) -> SurvivalTest:
    result = survival({"volume": feature}, followed, "days", "death")
    assert isinstance(result, SurvivalResult)
    (test,) = result.tests
    return test


def test_a_planted_hazard_is_found() -> None:
    test = only_test(*draw(1, 85, 0.8))
    assert test.hazard is not None
    assert test.hazard.low < np.exp(0.8) < test.hazard.high
    assert test.hazard.low > 1
    assert test.hazard.p < 0.001
    assert test.logrank_p < 0.01
    assert test.hazard.concordance > 0.6
    # More of the feature, shorter lives.
    assert test.above.median is not None
    assert test.below.median is None or test.above.median < test.below.median


@pytest.mark.slow
def test_no_hazard_is_found_at_the_nominal_rate_over_100_draws() -> None:
    tests = [only_test(*draw(seed, 40, 0.0)) for seed in range(100)]
    # The 99.9 % range of a binomial of 100 draws at 0.05.
    most, least = (int(stats.binom.ppf(q, 100, 0.05)) for q in (0.9995, 0.0005))
    assert least <= sum(test.logrank_p < 0.05 for test in tests) <= most
    assert least <= sum(test.hazard is not None and test.hazard.p < 0.05 for test in tests) <= most


def test_kaplan_and_meiers_estimate_of_six_patients() -> None:
    # By hand: 6 at risk, 2 die at 2 (4/6); one is last seen at 3; 3 at risk, one dies at 5 (4/6 of 2/3);
    # one is last seen at 6, and the last dies at 9.
    times = np.array([2.0, 2.0, 3.0, 5.0, 6.0, 9.0])
    events = np.array([True, True, False, True, False, True])
    curve = survival_curve(times, events)
    assert curve.times == (2, 3, 5, 6, 9)
    assert curve.survival == pytest.approx((2 / 3, 2 / 3, 4 / 9, 4 / 9, 0))
    assert curve.at_risk == (6, 4, 3, 2, 1)
    assert curve.censored == (0, 1, 0, 1, 0)
    assert (curve.patients, curve.events, curve.median) == (6, 4, 5)


def test_a_curve_that_stays_above_one_half_has_no_median() -> None:
    curve = survival_curve(np.array([1.0, 2.0, 3.0]), np.array([True, False, False]))
    assert curve.survival == pytest.approx((2 / 3, 2 / 3, 2 / 3))
    assert curve.median is None


def test_the_log_rank_test_of_two_groups_is_its_formula() -> None:
    feature, followed = draw(3, 30, 0.5)
    test = only_test(feature, followed)
    above = {name for name, value in feature.items() if value > np.median(list(feature.values()))}
    observed = expected = variance = 0.0
    for moment in sorted({row.time for row in followed.values() if row.event}):
        at_risk = [name for name, row in followed.items() if row.time >= moment]
        deaths = [name for name in at_risk if followed[name].event and followed[name].time == moment]
        share = sum(name in above for name in at_risk) / len(at_risk)
        observed += sum(name in above for name in deaths)
        expected += len(deaths) * share
        # Times are real numbers, so one patient dies at a time.
        variance += share * (1 - share)
    assert test.logrank_p == pytest.approx(float(stats.chi2.sf((observed - expected) ** 2 / variance, 1)))


def test_patients_without_a_time_or_an_event_are_counted_as_missing() -> None:
    feature, followed = draw(2, 60, 0.5)
    test = only_test(feature, dict(list(followed.items())[7:]))
    assert (test.patients, test.missing) == (53, 7)
    assert test.below.patients + test.above.patients == 53
    assert test.below.events + test.above.events == test.events


def test_corrections_are_over_all_features() -> None:
    _, followed = draw(0, 60, 0.0)
    features = {f"f{index}": draw(index, 60, 0.0)[0] for index in range(5)}
    result = survival(features, followed, "days", "death")
    assert isinstance(result, SurvivalResult)
    p = np.array([test.hazard.p for test in result.tests if test.hazard])
    assert [test.hazard.bonferroni for test in result.tests if test.hazard] == pytest.approx(
        np.minimum(5 * p, 1)
    )
    logrank = np.array([test.logrank_p for test in result.tests])
    assert [test.logrank_false_discovery for test in result.tests] == pytest.approx(
        stats.false_discovery_control(logrank)
    )


def test_a_feature_that_orders_the_deaths_perfectly_has_no_finite_ratio() -> None:
    names = [f"P{index:02}" for index in range(30)]
    followed = {
        name: FollowUp(10.0, False) if place < 15 else FollowUp(float(place), True)
        for place, name in enumerate(names)
    }
    feature = {name: float(followed[name].event) for name in names}
    # Nobody with a low feature dies while somebody is at risk.
    test = only_test(
        feature, {name: FollowUp(1.0 if row.event else 10.0, row.event) for name, row in followed.items()}
    )
    assert test.hazard is None
    assert test.logrank_p < 1e-4


def test_a_feature_with_one_value_is_left_out() -> None:
    feature, followed = draw(4, 40, 0.0)
    result = survival({"components": dict.fromkeys(feature, 1.0)}, followed, "days", "death")
    assert result == SurvivalResult("days", "death", ())


def test_too_few_deaths_are_refused_in_words() -> None:
    feature, followed = draw(5, 40, 0.0)
    alive = {name: FollowUp(row.time, False) for name, row in followed.items()}
    result = survival({"volume": feature}, alive, "days", "death")
    assert isinstance(result, SurvivalRefusal)
    assert result.reason.startswith(
        "8 patients with 10 events among them are needed; 40 have a feature, days and"
    )


def test_empty_cells_are_no_follow_up() -> None:
    times: dict[str, object] = {"P0": 3, "P1": None, "P2": 4.5, "P3": ""}
    events: dict[str, object] = {"P0": 1, "P1": 1, "P2": 0, "P3": 1, "P4": 1}
    assert follow_ups(times, events, "days and death") == {
        "P0": FollowUp(3.0, True),
        "P2": FollowUp(4.5, False),
    }


@pytest.mark.parametrize(("time", "event"), [(-1, 1), ("3 years", 0), (3, 2), (3, "dead"), (float("nan"), 1)])
def test_what_is_not_a_time_and_an_event_is_refused(time: object, event: object) -> None:
    with pytest.raises(InputError, match="columns days and death are not a time and an event for P0"):
        follow_ups({"P0": time}, {"P0": event}, "days and death")
