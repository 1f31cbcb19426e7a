"""What a result is judged by: the scans of the headline, and the slices of as many as a page can compare."""

from __future__ import annotations

from dataclasses import dataclass

from slicemill.core.evaluation.rows import ScanScore
from slicemill.io.results import Results
from slicemill.io.scores.results import SliceScore
from slicemill.pages.headline import Headline, headline
from slicemill.pages.selection import compared_scans, is_classifier


@dataclass(frozen=True)
class Evidence:
    """The headline's scans, those of them whose slices were read, and these slices.

    `threshold` is a classifier's, None of a network that draws masks.
    """

    headline: Headline
    compared: tuple[ScanScore, ...]
    slices: tuple[SliceScore, ...]
    threshold: float | None


def evidence(results: Results) -> Evidence | None:
    """What the scores are judged by; None without a finished scan."""
    if results.scores is None or not results.scores.scans:
        return None
    first = headline(results)
    scans = compared_scans(first.scans)
    threshold = first.scans[0].threshold if is_classifier(first.scans) else None
    return Evidence(first, tuple(scans), tuple(results.scores.slices(scans)), threshold)
