"""What `arms.py` prints: each arm beside the base, its Dice, and the difference with what chance does to it.

Chance acts twice. Other scans would say something else: that is the bootstrap's interval over scans. The same
arm trained once more would, too: that is the spread of an arm's runs, pooled over all arms.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from slicemill.core.evaluation.summary import paired_difference


def comparison(name: str, results: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """An arm beside the base: its Dice, the difference by scan, and how far its runs leave that open."""
    arm, base = ([result for result in results if result["arm"] == side] for side in (name, "base"))
    row = {
        "arm": name,
        "runs": len(arm),
        "epochs": round(statistics.fmean(result["epochs"] for result in arm), 1),
        "mean_dice": statistics.fmean(mean_by_scan(arm).values()),
    }
    if name == "base" or not base:
        return row
    difference = paired_difference(mean_by_scan(arm), mean_by_scan(base))
    margin = 1.96 * run_deviation(results) * math.sqrt(1 / len(arm) + 1 / len(base))
    return {**row, "minus_base": difference, "run_margin": margin}


def mean_by_scan(results: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Each scan's Dice as the mean over runs."""
    return {scan: statistics.fmean(result["dice"][scan] for result in results) for scan in results[0]["dice"]}


def run_deviation(results: Sequence[dict[str, Any]]) -> float:
    """Standard deviation of a run's mean Dice within an arm, pooled over arms; NaN if no arm has two."""
    squares, freedom = 0.0, 0
    for name in {result["arm"] for result in results}:
        means = [statistics.fmean(result["dice"].values()) for result in results if result["arm"] == name]
        squares += sum((mean - statistics.fmean(means)) ** 2 for mean in means)
        freedom += len(means) - 1
    return math.sqrt(squares / freedom) if freedom else math.nan


def line(row: Mapping[str, Any]) -> str:
    """A row of the table in Markdown."""
    cells = [row["arm"], row["runs"], row["epochs"], f"{row['mean_dice']:.3f}"]
    if difference := row.get("minus_base"):
        mean, patients = difference.mean_difference, difference.patients
        cells += [
            f"{mean.value:+.3f} ({mean.low:+.3f} to {mean.high:+.3f})",
            f"±{row['run_margin']:.3f}",
            f"{difference.first_better} of {patients}",
        ]
    return "| " + " | ".join(map(str, cells)) + " |"
