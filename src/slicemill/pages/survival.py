"""Survival against the shape of tumours: as a section of the page of associations, and as Markdown."""

from __future__ import annotations

from collections.abc import Iterator

from slicemill.core.results.association_result import AssociationResult
from slicemill.core.results.feature_rows import feature_words
from slicemill.core.results.survival_result import (
    Hazard,
    Survival,
    SurvivalCurve,
    SurvivalResult,
    SurvivalTest,
)
from slicemill.pages.figures.association import hazards
from slicemill.pages.figures.style import picture
from slicemill.pages.figures.survival import survival_curves
from slicemill.pages.sections.blocks import (
    NONE,
    Block,
    Chart,
    Charts,
    Heading,
    Note,
    Section,
    TableBlock,
    TableColumn,
    text_rows,
)

SPLIT = (
    "Patients above a feature's median against the others: median survival by Kaplan and Meier, and the "
    "log-rank test, corrected for all rows of the same masks."
)
COX = (
    "Cox's proportional hazards, each feature alone, per standard deviation of it, with its 95 % interval. "
    "Nothing is adjusted for age, grade or treatment. Concordance is on the patients of the fit, so it "
    "flatters; 0.5 is chance. A low p of proportionality says that the ratio changes with time."
)
SPLIT_HEADS = (
    *("feature", "masks", "patients", "missing", "events", "median at or below", "median above"),
    *("log-rank p", "Bonferroni", "false discovery"),
)
COX_HEADS = (
    *("feature", "masks", "hazard ratio", "p", "Bonferroni", "false discovery"),
    *("concordance", "proportionality p"),
)
_TITLE = "Survival"


def survival_sections(result: AssociationResult) -> list[Section]:
    """The section of survival; one sentence in it where there is nothing to show."""
    blocks: list[Block] = [Note(text, "missing") for text in survival_refusals(result)]
    for mask, survival in _by_mask(result).items():
        if isinstance(survival, SurvivalResult):
            blocks += [Heading(f"By {mask} masks"), *_charts(survival, mask)]
    if split := split_rows(result):
        blocks.append(TableBlock("survival-split", SPLIT, _columns(SPLIT_HEADS), text_rows(split)))
        blocks.append(TableBlock("survival-cox", COX, _columns(COX_HEADS), text_rows(cox_rows(result))))
    return [Section("survival", _TITLE, tuple(blocks))]


def survival_refusals(result: AssociationResult) -> list[str]:
    """A sentence for each kind of mask without a test; one where both lack it for the same reason."""
    reasons = {
        mask: survival.reason
        for mask, survival in _by_mask(result).items()
        if not isinstance(survival, SurvivalResult)
    }
    if len(reasons) == 2 and len(set(reasons.values())) == 1:
        return [f"Survival was not tested: {reasons['true']}."]
    return [f"Survival was not tested by {mask} masks: {reason}." for mask, reason in reasons.items()]


def split_rows(result: AssociationResult) -> list[list[str]]:
    """A row a feature and kind of mask, cells in the order of `SPLIT_HEADS`."""
    return [
        [
            feature_words(test.feature),
            mask,
            str(test.patients),
            str(test.missing),
            str(test.events),
            _median(test.below),
            _median(test.above),
            *_chances(test.logrank_p, test.logrank_bonferroni, test.logrank_false_discovery),
        ]
        for mask, test in _tests(result)
    ]


def cox_rows(result: AssociationResult) -> list[list[str]]:
    """A row a feature and kind of mask, cells in the order of `COX_HEADS`."""
    return [[feature_words(test.feature), mask, *_hazard(test.hazard)] for mask, test in _tests(result)]


def _charts(survival: SurvivalResult, mask: str) -> list[Block]:
    ratios = [
        (feature_words(test.feature), test.hazard.ratio, test.hazard.low, test.hazard.high)
        for test in survival.tests
        if test.hazard
    ]
    charts = [_curves(test, survival.time, mask) for test in survival.tests]
    if ratios:
        caption = (
            "Hazard ratio of each feature with its 95 % interval; right of the line patients die sooner."
        )
        alt = f"Forest plot of {len(ratios)} hazard ratios by {mask} masks"
        charts.insert(0, Chart(picture(hazards(ratios)), caption, alt))
    return [Charts(tuple(charts))] if charts else []


def _curves(test: SurvivalTest, time: str, mask: str) -> Chart:
    name = feature_words(test.feature)
    curves = {"at or below the median": test.below, "above the median": test.above}
    return Chart(
        picture(survival_curves(curves, time)),
        f"{name}: Kaplan-Meier estimate with its 95 % interval; log-rank p {test.logrank_p:.2g}.",
        f"Survival by {name} of {mask} masks, {test.patients} patients",
    )


def _by_mask(result: AssociationResult) -> dict[str, Survival]:
    return {"predicted": result.predicted_survival, "true": result.true_survival}


def _tests(result: AssociationResult) -> Iterator[tuple[str, SurvivalTest]]:
    for mask, survival in _by_mask(result).items():
        if isinstance(survival, SurvivalResult):
            yield from ((mask, test) for test in survival.tests)


def _median(curve: SurvivalCurve) -> str:
    return NONE if curve.median is None else f"{curve.median:g}"


def _hazard(hazard: Hazard | None) -> list[str]:
    if hazard is None:
        return [NONE] * (len(COX_HEADS) - 2)
    return [
        f"{hazard.ratio:.2f} ({hazard.low:.2f} to {hazard.high:.2f})",
        *_chances(hazard.p, hazard.bonferroni, hazard.false_discovery),
        f"{hazard.concordance:.3f}",
        *_chances(hazard.proportional_p),
    ]


def _chances(*chances: float) -> list[str]:
    return [f"{chance:.2g}" for chance in chances]


def _columns(heads: tuple[str, ...]) -> tuple[TableColumn, ...]:
    return tuple(TableColumn(name, numeric=name not in ("feature", "masks")) for name in heads)
