"""What `associate` found out, as it is stored and drawn."""

from __future__ import annotations

from dataclasses import dataclass

from slicemill.core.results.survival_result import NOT_TESTED, Survival
from slicemill.core.results.target_result import Target

#: Patients of the smallest group that is tested.
MIN_GROUP = 2


@dataclass(frozen=True)
class Association:
    """One feature against one clinical column, over patients that have both."""

    feature: str
    outcome: str
    patients: int
    missing: int
    """Patients with the feature whose column is empty, or whose group has one patient alone."""
    groups: int
    fisher_p: float
    """Fisher's exact test of the median split against the groups; by random tables beyond two groups."""
    rank_p: float
    """Kruskal and Wallis's rank test over the groups."""
    effect: float
    """Epsilon squared of the rank test: 0 for no association, 1 for groups that do not overlap."""
    effect_low: float
    effect_high: float
    """95 % bootstrap interval over patients."""
    fisher_bonferroni: float = float("nan")
    fisher_false_discovery: float = float("nan")
    """Benjamini and Hochberg's."""
    rank_bonferroni: float = float("nan")
    rank_false_discovery: float = float("nan")


@dataclass(frozen=True)
class Agreement:
    """One feature by predicted masks against the same by true ones, over scans that have both."""

    feature: str
    scans: int
    spearman: float | None
    """Rank correlation; None of fewer than three scans, or of values that are all equal."""
    median_ratio: float | None
    """Median over scans of predicted over true; None where a true value is 0."""


@dataclass(frozen=True)
class AssociationResult:
    """Every test by predicted and by true masks, how the masks agree, and what is missing."""

    scans: int
    spacing: tuple[float | str, ...]
    """Distance of slices, rows and columns: numbers, or the clinical columns that say them."""
    empty_predicted: tuple[str, ...]
    """Scans in which the model predicted no tumour."""
    empty_true: tuple[str, ...]
    """Labelled scans without tumour."""
    without_truth: tuple[str, ...]
    """Scans whose slices are not all labelled, so that their true shape is not known."""
    agreement: tuple[Agreement, ...]
    predicted: tuple[Association, ...]
    """Tests by predicted masks."""
    true: tuple[Association, ...]
    """Tests by true masks."""
    made: str
    """When, ISO 8601, UTC."""
    command: str
    """Command line."""
    predicted_targets: tuple[Target, ...] = ()
    """Columns predicted from the shape of predicted masks."""
    true_targets: tuple[Target, ...] = ()
    """Columns predicted from the shape of true masks."""
    predicted_survival: Survival = NOT_TESTED
    """Survival against the shape of predicted masks."""
    true_survival: Survival = NOT_TESTED
    """Survival against the shape of true masks."""
