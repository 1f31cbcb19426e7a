"""Clinical columns predicted from shape: as a section of the page of associations, and as Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from slicemill.core.results.association_result import AssociationResult
from slicemill.core.results.target_result import Target, TargetResult
from slicemill.pages.sections.blocks import Block, Note, Section, TableBlock, TableColumn, text_rows

EXPLAINED = (
    "Logistic regression on shape features, five folds by patient, nothing tuned: each patient is predicted "
    "by a model that was fitted on others. AUROC: the mean over classes of one class against the rest, with "
    "its 95 % bootstrap interval over patients; 0.5 is chance. p: how often the same on labels dealt out at "
    "random does as well, not corrected for the number of columns. So few patients bound what can be said: a "
    "wide interval says nothing either way."
)
HEADS = (
    TableColumn("column"),
    TableColumn("masks"),
    TableColumn("patients", numeric=True),
    TableColumn("missing", numeric=True),
    TableColumn("classes"),
    TableColumn("AUROC", numeric=True),
    TableColumn("labels at random", numeric=True),
    TableColumn("p", numeric=True),
    TableColumn("accuracy", numeric=True),
    TableColumn("largest class", numeric=True),
)


def target_section(result: AssociationResult) -> list[Section]:
    """The section of predicted columns; none where none was asked for."""
    targets = _by_mask(result)
    rows = target_rows(result)
    notes: list[Block] = [Note(text, "missing") for text in refusals(targets)]
    if not rows and not notes:
        return []
    table: list[Block] = [TableBlock("targets", EXPLAINED, HEADS, text_rows(rows))] if rows else []
    return [Section("targets", "Columns predicted from shape", (*table, *notes))]


def target_rows(result: AssociationResult) -> list[list[str]]:
    """A row a column and kind of mask, cells in the order of `HEADS`."""
    return [
        _row(target, mask)
        for mask, targets in _by_mask(result).items()
        for target in targets
        if isinstance(target, TargetResult)
    ]


def refusals(targets: Mapping[str, Sequence[Target]]) -> list[str]:
    """A sentence for each column that was not predicted."""
    return [
        f"{target.column} was not predicted by {mask} masks: {target.reason}."
        for mask, of_mask in targets.items()
        for target in of_mask
        if not isinstance(target, TargetResult)
    ]


def target_refusals(result: AssociationResult) -> list[str]:
    """A sentence for each column of a result that was not predicted."""
    return refusals(_by_mask(result))


def _by_mask(result: AssociationResult) -> dict[str, tuple[Target, ...]]:
    return {"predicted": result.predicted_targets, "true": result.true_targets}


def _row(target: TargetResult, mask: str) -> list[str]:
    area = target.auroc
    ends = "" if area.low is None or area.high is None else f" ({area.low:.3f} to {area.high:.3f})"
    return [
        target.column,
        mask,
        str(target.patients),
        str(target.missing),
        ", ".join(f"{kind.name}: {kind.patients}" for kind in target.classes),
        f"{area.value:.3f}{ends}",
        f"{target.permuted_auroc:.3f}",
        f"{target.p_value:.2g}",
        f"{target.accuracy:.3f}",
        f"{target.majority:.3f}",
    ]
