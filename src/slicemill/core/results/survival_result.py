"""Whether the shape of a tumour goes with how long patients live, as `associate` stores it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class SurvivalCurve:
    """Kaplan and Meier's estimate for one group of patients, a step at each time of the table."""

    patients: int
    events: int
    times: tuple[float, ...]
    """Times at which a patient had the event or was last seen, ascending, after 0."""
    survival: tuple[float, ...]
    """Share that is expected to live longer than each time."""
    low: tuple[float, ...]
    high: tuple[float, ...]
    """95 % interval at each time (log-log)."""
    at_risk: tuple[int, ...]
    """Patients of whom nothing had ended just before each time."""
    censored: tuple[int, ...]
    """Patients who were last seen at each time, without the event."""
    median: float | None
    """Time that half of the patients are expected to outlive; None if fewer than half had the event."""


@dataclass(frozen=True)
class Hazard:
    """Cox's proportional hazards for one feature alone, per standard deviation of it."""

    ratio: float
    """Factor of the hazard for a feature higher by one standard deviation; 1 is none."""
    low: float
    high: float
    """95 % interval (Wald)."""
    p: float
    concordance: float
    """How often, of two patients, the one with the higher predicted hazard dies first, on the patients of the
    fit; 0.5 is chance."""
    proportional_p: float
    """Test of the scaled Schoenfeld residuals: a low p says that the ratio changes with time."""
    bonferroni: float = float("nan")
    false_discovery: float = float("nan")


@dataclass(frozen=True)
class SurvivalTest:
    """One feature against survival, over the patients that have both."""

    feature: str
    patients: int
    missing: int
    """Patients with the feature whose time or event is empty."""
    events: int
    below: SurvivalCurve
    """Patients at or below the feature's median."""
    above: SurvivalCurve
    logrank_p: float
    """Log-rank test of the two curves."""
    hazard: Hazard | None
    """None where no finite ratio fits, such as a feature that orders the events perfectly."""
    logrank_bonferroni: float = float("nan")
    logrank_false_discovery: float = float("nan")


@dataclass(frozen=True)
class SurvivalRefusal:
    """Why survival was not tested."""

    reason: str


@dataclass(frozen=True)
class SurvivalResult:
    """The tests of every feature, and the columns that say times and events."""

    time: str
    event: str
    tests: tuple[SurvivalTest, ...]


#: What became of survival by one kind of mask.
Survival = SurvivalResult | SurvivalRefusal

#: Without the two columns.
NOT_TESTED = SurvivalRefusal("no columns with times and events were named")
