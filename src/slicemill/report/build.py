"""A report from its inputs: sections in order, the head of the page, and the page itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from slicemill.io.storage.uri import display
from slicemill.report.inputs import Inputs
from slicemill.report.page import Page, render
from slicemill.report.sections.blocks import Section, count_figures
from slicemill.report.sections.data import data_section
from slicemill.report.sections.pictures import picture_sections
from slicemill.report.sections.results import result_section
from slicemill.report.sections.training import training_section

#: First part of every name that the phantom generator gives.
_SYNTHETIC = "PHANTOM_"


@dataclass(frozen=True)
class Report:
    """A finished page, UTF-8, and the figures in it."""

    html: bytes
    figures: int


def build(inputs: Inputs, scans: Sequence[str] = (), made: datetime | None = None) -> Report:
    """Draw the whole page; `scans` get a page besides the best and the worst, `made` is now unless given."""
    pictures, anchors = picture_sections(inputs, scans)
    sections: list[Section] = [
        result_section(inputs, anchors),
        *pictures,
        data_section(inputs),
        training_section(inputs),
    ]
    head = Page("slicemill report", _given(inputs), made or datetime.now(UTC), _synthetic(inputs))
    return Report(render(head, sections), count_figures(sections))


def _given(inputs: Inputs) -> tuple[tuple[str, str], ...]:
    named = {"lake": inputs.lake, "run": inputs.run, "scores": inputs.scores}
    return tuple((name, display(part.home) if part else "not given") for name, part in named.items())


def _synthetic(inputs: Inputs) -> bool:
    scans = [*(inputs.lake.scans if inputs.lake else ()), *(inputs.scores.scans if inputs.scores else ())]
    return any(str(scan["scan_id"]).startswith(_SYNTHETIC) for scan in scans)
