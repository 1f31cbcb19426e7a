"""Associations of tumour shape as Markdown and as a page of its own, from what `associate` writes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from slicemill.core.results.association_result import MIN_GROUP, Association, AssociationResult
from slicemill.core.results.feature_rows import TESTED, FeatureRow, by_patient, feature_words
from slicemill.pages.figures.association import agreement, boxes, forest
from slicemill.pages.figures.style import picture
from slicemill.pages.page import Page, render
from slicemill.pages.sections.blocks import (
    NONE,
    Block,
    Cell,
    Chart,
    Charts,
    Note,
    Section,
    TableBlock,
    TableColumn,
    text_rows,
)
from slicemill.pages.survival import (
    COX,
    COX_HEADS,
    SPLIT,
    SPLIT_HEADS,
    cox_rows,
    split_rows,
    survival_refusals,
    survival_sections,
)
from slicemill.pages.targets import EXPLAINED as TARGETS_EXPLAINED
from slicemill.pages.targets import HEADS as TARGET_HEADS
from slicemill.pages.targets import target_refusals, target_rows, target_section

_EXPLAINED = (
    "Fisher's exact test of the feature's median split, as in Buda, Saha and Mazurowski (2019), and the rank "
    "test of Kruskal and Wallis. Effect: epsilon squared with its 95 % bootstrap interval over patients. "
    "Corrected for all tests of the table: Bonferroni, and Benjamini and Hochberg (false discovery)."
)
_PUBLISHED = (
    "Published, on 110 patients and ten pairs: the strongest association was of RNASeq clusters with the "
    "bounding ellipsoid volume ratio (p below 0.0002), then with the margin fluctuation (p below 0.005)."
)
#: Published p by feature and outcome (Buda 2019).
_PUBLISHED_P = {
    ("bounding_ellipsoid_volume_ratio", "RNASeqCluster"): "< 0.0002",
    ("margin_fluctuation", "RNASeqCluster"): "< 0.005",
}
#: Pairs whose features are drawn group by group.
_DRAWN = 6
_HEADS = (
    TableColumn("feature"),
    TableColumn("outcome"),
    TableColumn("patients", numeric=True),
    TableColumn("missing", numeric=True),
    TableColumn("Fisher p", numeric=True),
    TableColumn("Bonferroni", numeric=True),
    TableColumn("false discovery", numeric=True),
    TableColumn("rank p", numeric=True),
    TableColumn("effect", numeric=True),
    TableColumn("published p", numeric=True),
)


def _tests(result: AssociationResult) -> dict[str, tuple[Association, ...]]:
    """Tests by the title of their section."""
    return {"By predicted masks": result.predicted, "By true masks": result.true}


def as_markdown(result: AssociationResult) -> str:
    """One table a kind of mask, the agreement of the two, and what they were made on."""
    parts = ["# Shape of tumours and clinical columns", _EXPLAINED, _PUBLISHED]
    for title, tests in _tests(result).items():
        rows = [_cells(test) for test in tests]
        parts += [
            f"## {title}",
            _markdown([column.name for column in _HEADS], rows) if rows else _too_little(),
        ]
    heads = ["feature", "scans", "Spearman", "median ratio"]
    parts += ["## Predicted against true", _markdown(heads, _agreement_rows(result))]
    if rows := target_rows(result):
        names = [column.name for column in TARGET_HEADS]
        parts += ["## Columns predicted from shape", TARGETS_EXPLAINED, _markdown(names, rows)]
    parts += [*target_refusals(result), "## Survival", *survival_refusals(result)]
    for words, heads_of, cells in ((SPLIT, SPLIT_HEADS, split_rows), (COX, COX_HEADS, cox_rows)):
        if rows := cells(result):
            parts += [words, _markdown(heads_of, rows)]
    parts += [_missing(result), f"Made {result.made}.", f"    {result.command}"]
    return "\n\n".join(parts) + "\n"


def as_html(
    result: AssociationResult, rows: Sequence[FeatureRow], outcomes: Mapping[str, Mapping[str, str]]
) -> bytes:
    """The same as one HTML page that needs nothing beside itself, UTF-8, with figures.

    `outcomes`: group by patient, by the column's name.
    """
    sections: list[Section] = []
    for title, tests in _tests(result).items():
        blocks: list[Block] = [Note(_too_little(), "missing")]
        if tests:
            effects = [(_pair(test), test.effect, test.effect_low, test.effect_high) for test in tests]
            chart = Chart(
                picture(forest(effects)),
                "Effect of every test, with its 95 % interval.",
                f"Forest plot of {len(tests)} effects",
            )
            table = TableBlock(
                f"tests-{len(sections)}", _EXPLAINED, _HEADS, tuple(map(_row, tests)), search=True
            )
            mask = "true" if tests is result.true else "predicted"
            blocks = [Charts((chart,)), table, *_boxes(tests, by_patient(rows, mask), outcomes)]
        sections.append(Section(f"tests-{len(sections)}", title, (*blocks, Note(_PUBLISHED))))
    sections.append(Section("agreement", "Predicted against true", _agreement_blocks(result, rows)))
    sections += [*target_section(result), *survival_sections(result)]
    inputs = (("scans", str(result.scans)),)
    timestamp = datetime.fromisoformat(result.made)
    return render(Page("slicemill associations", inputs, timestamp, synthetic=False), sections)


def _boxes(
    tests: Sequence[Association],
    features: Mapping[str, Mapping[str, float]],
    outcomes: Mapping[str, Mapping[str, str]],
) -> list[Block]:
    """The features of the strongest pairs, group by group."""
    charts = []
    for test in sorted(tests, key=lambda test: test.rank_p)[:_DRAWN]:
        values, groups = features[test.feature], outcomes[test.outcome]
        members: dict[str, list[float]] = {}
        for patient in sorted(values.keys() & groups.keys()):
            members.setdefault(groups[patient], []).append(values[patient])
        members = {name: of_group for name, of_group in members.items() if len(of_group) >= MIN_GROUP}
        caption = f"{_pair(test)}: rank p {test.rank_p:.2g}, corrected {test.rank_false_discovery:.2g}."
        alt = f"Box plot of {feature_words(test.feature)} by {test.outcome}, {len(members)} groups"
        charts.append(Chart(picture(boxes(members, feature_words(test.feature))), caption, alt))
    words = "The pairs with the lowest rank p: a point a patient, number of patients in brackets."
    return [Note(words), Charts(tuple(charts))]


def _agreement_blocks(result: AssociationResult, rows: Sequence[FeatureRow]) -> tuple[Block, ...]:
    heads = (
        TableColumn("feature"),
        *(TableColumn(name, numeric=True) for name in ("scans", "Spearman", "median ratio")),
    )
    caption = "The same feature by predicted and by true masks: what automatic segmentation costs."
    table = TableBlock("agreement", caption, heads, text_rows(_agreement_rows(result)))
    blocks: list[Block] = [table, Note(_missing(result))]
    ours = {row.scan_id: row for row in rows if row.mask == "predicted"}
    pairs = [(ours[row.scan_id], row) for row in rows if row.mask == "true" and row.scan_id in ours]
    if pairs:
        blocks.insert(0, Charts(tuple(_agreement_chart(name, pairs) for name in TESTED)))
    return tuple(blocks)


def _agreement_chart(name: str, pairs: Sequence[tuple[FeatureRow, FeatureRow]]) -> Chart:
    values = [(getattr(predicted, name), getattr(true, name)) for predicted, true in pairs]
    return Chart(
        picture(agreement(values, feature_words(name))),
        f"{feature_words(name)}: a point a scan; the line is equality.",
        f"Predicted against true {feature_words(name)} of {len(pairs)} scans",
    )


def _missing(result: AssociationResult) -> str:
    return (
        f"{result.scans} scans with tumour. Nothing predicted in {len(result.empty_predicted)}, no "
        f"tumour in {len(result.empty_true)}, not wholly labelled {len(result.without_truth)}. "
        f"Spacing {' x '.join(map(str, result.spacing))}."
    )


def _too_little() -> str:
    return "Too few patients with both a feature and a group: at least eight, in two groups of two."


def _pair(test: Association) -> str:
    return f"{feature_words(test.feature)}, {test.outcome}"


def _cells(test: Association) -> list[str]:
    effect = f"{test.effect:.3f} ({test.effect_low:.3f} to {test.effect_high:.3f})"
    chances = (test.fisher_p, test.fisher_bonferroni, test.fisher_false_discovery, test.rank_p)
    return [
        feature_words(test.feature),
        test.outcome,
        str(test.patients),
        str(test.missing),
        *(f"{chance:.2g}" for chance in chances),
        effect,
        _PUBLISHED_P.get((test.feature, test.outcome), NONE),
    ]


def _row(test: Association) -> tuple[Cell, ...]:
    orders: list[float | str] = [test.feature, test.outcome, test.patients, test.missing]
    orders += [test.fisher_p, test.fisher_bonferroni, test.fisher_false_discovery, test.rank_p, test.effect]
    orders += [_PUBLISHED_P.get((test.feature, test.outcome), "")]
    return tuple(Cell(text, order) for text, order in zip(_cells(test), orders, strict=True))


def _agreement_rows(result: AssociationResult) -> list[list[str]]:
    return [
        [feature_words(row.feature), str(row.scans), _number(row.spearman), _number(row.median_ratio)]
        for row in result.agreement
    ]


def _number(value: float | None) -> str:
    return NONE if value is None else f"{value:.3f}"


def _markdown(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
