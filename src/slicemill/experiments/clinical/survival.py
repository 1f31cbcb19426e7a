"""Whether the shape of a tumour goes with how long patients live: Kaplan and Meier, log-rank, Cox.

The estimates and tests are lifelines' (C. Davidson-Pilon, lifelines: survival analysis in Python, Journal of
Open Source Software 4, 2019). Each feature is tested alone: nothing is adjusted for age, grade or treatment.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from slicemill.core.results.survival_result import (
    Hazard,
    Survival,
    SurvivalCurve,
    SurvivalRefusal,
    SurvivalResult,
    SurvivalTest,
)
from slicemill.errors import InputError, MachineError
from slicemill.experiments.clinical.association import MIN_PATIENTS, corrections
from slicemill.types import Floats

#: Events below which nothing is tested: ten for each coefficient (P. Peduzzi and others, Importance of events
#: per independent variable in proportional hazards regression, Journal of Clinical Epidemiology 48, 1995).
MIN_EVENTS = 10

Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class FollowUp:
    """How long a patient was followed, in the unit of the column, and whether the event ended it."""

    time: float
    event: bool


def follow_ups(times: Mapping[str, object], events: Mapping[str, object], names: str) -> dict[str, FollowUp]:
    """Follow-up by patient, of those with both a time and an event.

    `names` of the two columns are for the message. Raises InputError for a time that is not a number of 0 or
    more, and for an event that is neither 0 nor 1.
    """
    by_patient = {}
    for patient in sorted(times.keys() & events.keys()):
        time, event = times[patient], events[patient]
        if time in (None, "") or event in (None, ""):
            continue
        if not isinstance(time, int | float) or not 0 <= time < float("inf") or event not in (0, 1):
            raise InputError(
                f"the clinical columns {names} are not a time and an event for {patient}",
                expected="a number of 0 or more, and 0 (last seen) or 1 (dead)",
                found=f"{time!r} and {event!r}",
            )
        by_patient[patient] = FollowUp(float(time), bool(event))
    return by_patient


def survival(
    features: Mapping[str, Mapping[str, float]], patients: Mapping[str, FollowUp], time: str, event: str
) -> Survival:
    """Every feature against survival, corrected for the number of features.

    `features`: value by patient, by the feature's name; `time` and `event` are the columns' names. Raises
    MachineError without lifelines.
    """
    followed = {name for values in features.values() for name in values} & patients.keys()
    deaths = sum(patients[name].event for name in followed)
    if len(followed) < MIN_PATIENTS or deaths < MIN_EVENTS:
        return SurvivalRefusal(
            f"{MIN_PATIENTS} patients with {MIN_EVENTS} events among them are needed; {len(followed)} have a "
            f"feature, {time} and {event}, and {deaths} of them an event"
        )
    lifelines = require_lifelines()
    tests = [_test(lifelines, name, values, patients) for name, values in features.items()]
    return SurvivalResult(time, event, _corrected([test for test in tests if test is not None]))


def require_lifelines() -> Any:
    """The package of the estimates; raise MachineError where it is not installed."""
    try:
        import lifelines
        import lifelines.statistics
    except ImportError as error:
        raise MachineError(
            "--time needs a package that is not installed",
            expected="lifelines",
            found="none",
            advice="pip install 'slicemill[survival]'.",
        ) from error
    return lifelines


def _test(
    lifelines: Any, feature: str, values: Mapping[str, float], patients: Mapping[str, FollowUp]
) -> SurvivalTest | None:
    """One feature; None if it has one value alone, so that nothing can be split."""
    names = sorted(values.keys() & patients.keys())
    sample = np.array([values[name] for name in names])
    times = np.array([patients[name].time for name in names])
    events = np.array([patients[name].event for name in names])
    above = sample > np.median(sample)
    if not above.any():
        return None
    logrank = lifelines.statistics.logrank_test(times[above], times[~above], events[above], events[~above])
    return SurvivalTest(
        feature,
        patients=len(names),
        missing=len(values) - len(names),
        events=int(events.sum()),
        below=survival_curve(times[~above], events[~above]),
        above=survival_curve(times[above], events[above]),
        logrank_p=float(logrank.p_value),
        hazard=_hazard(lifelines, sample, times, events),
    )


def survival_curve(times: Floats, events: Bools) -> SurvivalCurve:
    """Kaplan and Meier's estimate. Raises MachineError without lifelines."""
    estimate = require_lifelines().KaplanMeierFitter().fit(times, events)
    # The first row is time 0, where everybody is alive, unless somebody leaves then.
    table = estimate.event_table[estimate.event_table["removed"] > 0]
    low, high = estimate.confidence_interval_.loc[table.index].to_numpy().T
    median = float(estimate.median_survival_time_)
    return SurvivalCurve(
        patients=len(times),
        events=int(events.sum()),
        times=tuple(map(float, table.index)),
        survival=tuple(map(float, estimate.survival_function_.loc[table.index].to_numpy()[:, 0])),
        low=tuple(map(float, low)),
        high=tuple(map(float, high)),
        at_risk=tuple(map(int, table["at_risk"])),
        censored=tuple(map(int, table["censored"])),
        median=median if np.isfinite(median) else None,
    )


def _hazard(lifelines: Any, sample: Floats, times: Floats, events: Bools) -> Hazard | None:
    import pandas as pd

    frame = pd.DataFrame({"feature": sample / sample.std(), "time": times, "event": events})
    with warnings.catch_warnings():
        # A fit that does not converge, or only by hair, is said to have none: see `Hazard`.
        warnings.simplefilter("error", lifelines.exceptions.ConvergenceWarning)
        try:
            model = lifelines.CoxPHFitter().fit(frame, "time", "event")
        except (lifelines.exceptions.ConvergenceError, lifelines.exceptions.ConvergenceWarning):
            return None
    row = model.summary.loc["feature"]
    ratio, low, high = (float(row[f"exp(coef){end}"]) for end in ("", " lower 95%", " upper 95%"))
    if not 0 < low <= high < float("inf"):
        return None
    proportional = lifelines.statistics.proportional_hazard_test(model, frame, time_transform="rank")
    return Hazard(
        ratio, low, high, float(row["p"]), float(model.concordance_index_), float(proportional.p_value[0])
    )


def _corrected(tests: Sequence[SurvivalTest]) -> tuple[SurvivalTest, ...]:
    logrank = corrections([test.logrank_p for test in tests])
    cox = iter(corrections([test.hazard.p for test in tests if test.hazard]))
    corrected = []
    for test, (bonferroni, false_discovery) in zip(tests, logrank, strict=True):
        hazard = test.hazard
        if hazard is not None:
            of_hazard = next(cox)
            hazard = replace(hazard, bonferroni=of_hazard[0], false_discovery=of_hazard[1])
        corrected.append(
            replace(
                test,
                hazard=hazard,
                logrank_bonferroni=bonferroni,
                logrank_false_discovery=false_discovery,
            )
        )
    return tuple(corrected)
