"""What `arms.py` prints: each arm beside the base, its Dice and the difference by scan."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from slicemill.core.evaluation.summary import paired_difference


def comparison(name: str, results: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """An arm beside the base: its Dice, and the difference by scan with its interval."""
    by_seed = {
        arm: {result["seed"]: result for result in results if result["arm"] == arm} for arm in (name, "base")
    }
    arm, base = by_seed[name], by_seed["base"]
    seeds = sorted(arm.keys() & base.keys())
    row = {
        "arm": name,
        "seeds": len(arm),
        "epochs": round(statistics.fmean(result["epochs"] for result in arm.values()), 1),
        "mean_dice": statistics.fmean(mean_by_scan(arm, sorted(arm)).values()),
    }
    if name == "base" or not seeds:
        return row
    return {**row, "minus_base": paired_difference(*(mean_by_scan(side, seeds) for side in (arm, base)))}


def mean_by_scan(results: Mapping[int, dict[str, Any]], seeds: Sequence[int]) -> dict[str, float]:
    """Each scan's Dice as the mean over seeds."""
    scans = results[seeds[0]]["dice"]
    return {scan: statistics.fmean(results[seed]["dice"][scan] for seed in seeds) for scan in scans}


def line(row: Mapping[str, Any]) -> str:
    """A row of the table in Markdown."""
    cells = [row["arm"], row["seeds"], row["epochs"], f"{row['mean_dice']:.3f}"]
    if difference := row.get("minus_base"):
        mean, patients = difference.mean_difference, difference.patients
        cells += [
            f"{mean.value:+.3f} ({mean.low:+.3f} to {mean.high:+.3f})",
            f"{difference.first_better} of {patients}",
        ]
    return "| " + " | ".join(map(str, cells)) + " |"
