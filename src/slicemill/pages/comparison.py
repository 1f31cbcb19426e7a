"""A comparison of runs as Markdown and as a page of its own, both from the JSON that `compare` writes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

from slicemill.pages.page import Page, render
from slicemill.pages.sections.blocks import NONE, Block, Cell, Note, Section, TableBlock, TableColumn, words

Line = Mapping[str, Any]

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


def as_markdown(compared: Line) -> str:
    """Two tables and what they were made on, as Markdown."""
    parts = ["# Comparison", _table(_RUN_COLUMNS, compared["runs"]), _INTERVALS]
    if compared["differences"]:
        parts += ["## Differences", _table(_DIFFERENCE_COLUMNS, compared["differences"]), _PAIRED]
    parts += [*_warnings(compared), _made_on(compared), f"    {compared['command']}"]
    return "\n\n".join(parts) + "\n"


def as_html(compared: Line) -> bytes:
    """The same as one HTML page that needs nothing beside itself, UTF-8."""
    runs: list[Block] = [_block("runs", _INTERVALS, _RUN_COLUMNS, compared["runs"])]
    runs += [Note(text, "warning") for text in _warnings(compared)]
    runs.append(Note(_made_on(compared)))
    sections = [Section("runs", "Runs", tuple(runs))]
    if compared["differences"]:
        table = _block("differences", _PAIRED, _DIFFERENCE_COLUMNS, compared["differences"])
        sections.append(Section("differences", "Differences", (table,)))
    inputs = (("runs", ", ".join(line["name"] for line in compared["runs"])),)
    timestamp = datetime.fromisoformat(compared["made"])
    return render(Page("slicemill comparison", inputs, timestamp, synthetic=False), sections)


def _warnings(compared: Line) -> list[str]:
    judged_on = {line["judged_on"] for line in compared["runs"]}
    text_of = {"validation": _VALIDATION, "LEAKING": _LEAKING}
    return [text for kind, text in text_of.items() if kind in judged_on]


def _made_on(compared: Line) -> str:
    machine = compared["machine"]
    versions = ", ".join(f"{name} {number}" for name, number in compared["versions"].items())
    hashes = sorted({str(line["data_hash"])[:12] for line in compared["runs"] if line.get("data_hash")})
    data = f" Data {', '.join(hashes)}." if hashes else ""
    return (
        f"Made {compared['made']} on {machine['processor']}, {machine['cores']} cores, "
        f"{machine['memory_gib']} GiB; {versions}.{data}"
    )


def _interval(value: Line | None, digits: int = 3, sign: str = "") -> str:
    if value is None:
        return NONE
    text = f"{value['value']:{sign}.{digits}f}"
    if value["low"] is None:
        return text
    return f"{text} ({value['low']:{sign}.{digits}f} to {value['high']:{sign}.{digits}f})"


def _speed(value: float | None) -> str:
    return NONE if value is None else f"{value:,.1f}"


def _minutes(line: Line) -> str:
    seconds, models = line["training_seconds"], line["trained_models"]
    if seconds is None:
        return NONE
    return f"{seconds / 60:,.1f}" + (f" ({models} models)" if models > 1 else "")


_Columns = Sequence[tuple[TableColumn, Callable[[Line], str]]]

_RUN_COLUMNS: _Columns = (
    (TableColumn("run"), lambda line: line["name"]),
    (TableColumn("network"), lambda line: f"{line['architecture']}, {line['input_size']} px"),
    (TableColumn("judged on"), lambda line: line["judged_on"]),
    (TableColumn("patients", numeric=True), lambda line: str(line["patients"])),
    (TableColumn("mean Dice", numeric=True), lambda line: _interval(line["mean_patient_dice"])),
    (TableColumn("slice-mean Dice", numeric=True), lambda line: _interval(line["slice_mean_dice"])),
    (TableColumn("slice accuracy", numeric=True), lambda line: _interval(line.get("slice_accuracy"))),
    (TableColumn("slice AUROC", numeric=True), lambda line: _interval(line.get("slice_auroc"))),
    (TableColumn("parameters", "millions", numeric=True), lambda line: _millions(line["parameters"])),
    (TableColumn("training", "minutes", numeric=True), _minutes),
    (
        TableColumn("scoring", "slices/s", numeric=True),
        lambda line: _speed(line["scoring_slices_per_second"]),
    ),
)

_DIFFERENCE_COLUMNS: _Columns = (
    (TableColumn("first"), lambda line: line["first"]),
    (TableColumn("second"), lambda line: line["second"]),
    (TableColumn("of"), lambda line: _DIFFERENCE_OF[line["of"]]),
    (TableColumn("patients", numeric=True), lambda line: str(line["patients"])),
    (TableColumn("difference", numeric=True), lambda line: _interval(line["mean_difference"], 3, "+")),
    (TableColumn("p", numeric=True), lambda line: f"{line['p_value']:.2g}"),
    (TableColumn("first better", numeric=True), lambda line: str(line["first_better"])),
    (TableColumn("second better", numeric=True), lambda line: str(line["second_better"])),
)


def _millions(count: int) -> str:
    return f"{count / 1e6:,.2f}"


def _filled(columns: _Columns, lines: Sequence[Line]) -> _Columns:
    """The columns that say something of at least one line."""
    return [(column, show) for column, show in columns if any(show(line) != NONE for line in lines)]


def _table(columns: _Columns, lines: Sequence[Line]) -> str:
    columns = _filled(columns, lines)
    heads = [f"{column.name} ({column.unit})" if column.unit else column.name for column, _ in columns]
    rules = ["---:" if column.numeric else "---" for column, _ in columns]
    rows = [[show(line).replace("|", "\\|") for _, show in columns] for line in lines]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in [heads, rules, *rows])


def _block(name: str, caption: str, columns: _Columns, lines: Sequence[Line]) -> TableBlock:
    columns = _filled(columns, lines)
    rows: tuple[tuple[Cell, ...], ...] = tuple(
        tuple(words(show(line)) for _, show in columns) for line in lines
    )
    return TableBlock(name, caption, tuple(column for column, _ in columns), rows)
