"""A report from its inputs: sections in order, the head of the page, and the page itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from slicemill.io.results import Results
from slicemill.io.storage.uri import display
from slicemill.pages.evidence import evidence
from slicemill.pages.page import Page, render
from slicemill.pages.sections.blocks import Section, count_figures
from slicemill.pages.sections.brief import brief_section
from slicemill.pages.sections.data import data_section
from slicemill.pages.sections.pictures import picture_sections
from slicemill.pages.sections.results import result_section
from slicemill.pages.sections.training import training_section

#: First part of every name that the phantom generator gives.
_SYNTHETIC = "PHANTOM_"


@dataclass(frozen=True)
class Report:
    """A finished page, UTF-8, and the figures in it."""

    html: bytes
    figures: int


def build(
    results: Results, scans: Sequence[str] = (), sheets: int | None = None, made: datetime | None = None
) -> Report:
    """Draw the whole page; `scans` get a page besides the best and the worst.

    `sheets` is the number of contact sheets beside the page, None without any; `made` is now unless given.
    """
    scored = evidence(results)
    pictures, anchors = picture_sections(results, scored, scans, sheets)
    sections: list[Section] = [
        brief_section(results, scored),
        result_section(results, scored, anchors),
        *pictures,
        data_section(results),
        training_section(results),
    ]
    head = Page("slicemill report", _inputs(results), made or datetime.now(UTC), _synthetic(results))
    return Report(render(head, sections), count_figures(sections))


def _inputs(results: Results) -> tuple[tuple[str, str], ...]:
    part_of = {"lake": results.lake, "run": results.run, "scores": results.scores}
    return tuple((name, display(part.home) if part else "none") for name, part in part_of.items())


def _synthetic(results: Results) -> bool:
    names = [scan.scan_id for scan in results.lake.scans] if results.lake else []
    names += [score.scan_id for score in results.scores.scans] if results.scores else []
    return any(name.startswith(_SYNTHETIC) for name in names)
