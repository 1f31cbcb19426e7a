"""A comparison of runs as Markdown and as a page of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import TypeVar

from slicemill.core.evaluation.intervals import Interval
from slicemill.core.results.side_by_side import ComparedRun, NamedDifference, SideBySide
from slicemill.pages.page import Page, render
from slicemill.pages.sections.blocks import NONE, Block, Cell, Note, Section, TableBlock, TableColumn, words

_DIFFERENCE_OF = {
    "dice": "volumetric Dice",
    "slice_mean_dice": "slice-mean Dice",
    "patient_accuracy": "share of slices told right",
}

_INTERVALS = "In brackets: 95 % bootstrap interval over patients."
_PAIRED = (
    "First minus second, over the patients that both have; interval by bootstrap over patients, p by the "
    "two-sided sign-flip permutation test. No correction for the number of comparisons."
)
_VALIDATION = (
    "Results on validation are those that a run's epoch was chosen by: they flatter it, and are "
    "compared with their like only."
)
_LEAKING = (
    "LEAKING: folds of random slices, so that the models were trained on other slices of the patients they "
    "are judged on. The difference to the same network out of fold is what that leak is worth."
)


def as_markdown(comparison: SideBySide) -> str:
    """Two tables and what they were made on, as Markdown."""
    parts = ["# Comparison", _table(_RUN_COLUMNS, comparison.runs), _INTERVALS]
    if comparison.differences:
        parts += ["## Differences", _table(_DIFFERENCE_COLUMNS, comparison.differences), _PAIRED]
    parts += [*_warnings(comparison), _made_on(comparison), f"    {comparison.command}"]
    return "\n\n".join(parts) + "\n"


def as_html(comparison: SideBySide) -> bytes:
    """The same as one HTML page that needs nothing beside itself, UTF-8."""
    runs: list[Block] = [_block("runs", _INTERVALS, _RUN_COLUMNS, comparison.runs)]
    runs += [Note(text, "warning") for text in _warnings(comparison)]
    runs.append(Note(_made_on(comparison)))
    sections = [Section("runs", "Runs", tuple(runs))]
    if comparison.differences:
        table = _block("differences", _PAIRED, _DIFFERENCE_COLUMNS, comparison.differences)
        sections.append(Section("differences", "Differences", (table,)))
    inputs = (("runs", ", ".join(run.name for run in comparison.runs)),)
    timestamp = datetime.fromisoformat(comparison.timestamp)
    return render(Page("slicemill comparison", inputs, timestamp, synthetic=False), sections)


def _warnings(comparison: SideBySide) -> list[str]:
    judged_on = {run.judged_on for run in comparison.runs}
    text_of = {"validation": _VALIDATION, "LEAKING": _LEAKING}
    return [text for kind, text in text_of.items() if kind in judged_on]


def _made_on(comparison: SideBySide) -> str:
    machine = comparison.machine
    versions = ", ".join(f"{name} {number}" for name, number in comparison.versions.items())
    hashes = sorted({run.facts.data_hash[:12] for run in comparison.runs if run.facts.data_hash})
    data = f" Data {', '.join(hashes)}." if hashes else ""
    return (
        f"Made {comparison.timestamp} on {machine['processor']}, {machine['cores']} cores, "
        f"{machine['memory_gib']} GiB; {versions}.{data}"
    )


def _interval(interval: Interval | None, digits: int = 3, sign: str = "") -> str:
    if interval is None:
        return NONE
    text = f"{interval.value:{sign}.{digits}f}"
    if interval.low is None:
        return text
    return f"{text} ({interval.low:{sign}.{digits}f} to {interval.high:{sign}.{digits}f})"


def _speed(value: float | None) -> str:
    return NONE if value is None else f"{value:,.1f}"


def _minutes(run: ComparedRun) -> str:
    seconds, models = run.facts.model.training_seconds, run.facts.trained_models
    if seconds is None:
        return NONE
    return f"{seconds / 60:,.1f}" + (f" ({models} models)" if models > 1 else "")


def _network(run: ComparedRun) -> str:
    return f"{run.facts.model.architecture}, {run.facts.model.input_size} px"


L = TypeVar("L")

_Columns = Sequence[tuple[TableColumn, Callable[[L], str]]]

_RUN_COLUMNS: _Columns[ComparedRun] = (
    (TableColumn("run"), lambda run: run.name),
    (TableColumn("network"), _network),
    (TableColumn("judged on"), lambda run: run.judged_on),
    (TableColumn("patients", numeric=True), lambda run: str(run.patients)),
    (TableColumn("mean Dice", numeric=True), lambda run: _interval(run.mean_patient_dice)),
    (TableColumn("slice-mean Dice", numeric=True), lambda run: _interval(run.slice_mean_dice)),
    (TableColumn("slice accuracy", numeric=True), lambda run: _interval(run.facts.slice_accuracy)),
    (TableColumn("slice AUROC", numeric=True), lambda run: _interval(run.facts.slice_auroc)),
    (TableColumn("parameters", "millions", numeric=True), lambda run: _millions(run.facts.model.parameters)),
    (TableColumn("training", "minutes", numeric=True), _minutes),
    (
        TableColumn("scoring", "slices/s", numeric=True),
        lambda run: _speed(run.facts.scoring_slices_per_second),
    ),
)

_DIFFERENCE_COLUMNS: _Columns[NamedDifference] = (
    (TableColumn("first"), lambda pair: pair.first),
    (TableColumn("second"), lambda pair: pair.second),
    (TableColumn("of"), lambda pair: _DIFFERENCE_OF[pair.of]),
    (TableColumn("patients", numeric=True), lambda pair: str(pair.difference.patients)),
    (
        TableColumn("difference", numeric=True),
        lambda pair: _interval(pair.difference.mean_difference, 3, "+"),
    ),
    (TableColumn("p", numeric=True), lambda pair: f"{pair.difference.p_value:.2g}"),
    (TableColumn("first better", numeric=True), lambda pair: str(pair.difference.first_better)),
    (TableColumn("second better", numeric=True), lambda pair: str(pair.difference.second_better)),
)


def _millions(count: int) -> str:
    return f"{count / 1e6:,.2f}"


def _filled(columns: _Columns[L], lines: Sequence[L]) -> _Columns[L]:
    """The columns that say something of at least one line."""
    return [(column, show) for column, show in columns if any(show(line) != NONE for line in lines)]


def _table(columns: _Columns[L], lines: Sequence[L]) -> str:
    columns = _filled(columns, lines)
    heads = [f"{column.name} ({column.unit})" if column.unit else column.name for column, _ in columns]
    rules = ["---:" if column.numeric else "---" for column, _ in columns]
    rows = [[show(line).replace("|", "\\|") for _, show in columns] for line in lines]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in [heads, rules, *rows])


def _block(name: str, caption: str, columns: _Columns[L], lines: Sequence[L]) -> TableBlock:
    columns = _filled(columns, lines)
    rows: tuple[tuple[Cell, ...], ...] = tuple(
        tuple(words(show(line)) for _, show in columns) for line in lines
    )
    return TableBlock(name, caption, tuple(column for column, _ in columns), rows)
