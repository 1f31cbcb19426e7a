"""What the results of a run know of its split."""

from __future__ import annotations

import dataclasses
from collections import Counter
from pathlib import Path

import pytest
from lake_builder import tiny_scan, write_lake
from run_builder import write_run

import slicemill
from slicemill.io.lake.splits import read_split
from slicemill.io.run.card import load_card, save_card
from slicemill.io.storage.uri import canonical


@pytest.mark.parametrize(
    ("training", "parts"),
    [
        ({"fold": 0}, {"test": 2, "val": 2, "train": 2}),
        ({"fold": 0, "val_share": 0.2}, {"test": 2, "val": 1, "train": 3}),
        ({}, {}),
    ],
)
def test_the_parts_are_those_that_the_run_was_trained_on(
    tmp_path: Path, training: dict[str, float], parts: dict[str, int]
) -> None:
    lake, run = canonical(str(tmp_path / "lake")), canonical(str(tmp_path / "run"))
    folds = {f"P{name}": f"fold-{at % 3}" for at, name in enumerate("abcdef")}
    write_lake(lake, [tiny_scan(name, 2) for name in "abcdef"], {"three": folds})
    write_run(run, size=32)
    split = read_split(lake, "three")
    card = dataclasses.replace(load_card(run), split="three", split_hash=split.hash, training=training)
    save_card(run, card)

    results = slicemill.open_results(lake, run)

    assert Counter(results.parts.values()) == parts
