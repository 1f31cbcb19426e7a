"""Read what a report is drawn from: the small tables of a lake, a run and a score folder.

A folder that is named and not there is an error; a folder that lacks a part of what it may hold is not.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from slicemill.config import MAX_PIXELS, PUBLIC_SCAN_PATTERN
from slicemill.core.scans.discovery import FoundFile, ScanTask, discover
from slicemill.core.scans.scan import Scan
from slicemill.core.splits import refuse_leaky
from slicemill.errors import ModelFileError
from slicemill.io import storage
from slicemill.io.lake.reader import read_lake_scan, require_lake
from slicemill.io.lake.splits import Split, read_split
from slicemill.io.parquet import ONE_FILE, read_file, read_small_or_empty
from slicemill.io.places import Lake, Run, Scores
from slicemill.io.raw.scan_reader import read_scan
from slicemill.io.run.card import Card, card_uri, load_card
from slicemill.io.scores.tables import refuse_leaky_scores
from slicemill.io.storage.uri import display, join
from slicemill.schemas import QUARANTINE, SCANS, SCORED_PATIENTS

Row = Mapping[str, Any]

_EXAMPLES = re.compile(r"examples-epoch-(\d+)\.png")


@dataclass(frozen=True)
class LakeInput:
    """A lake's scans with their clinical columns, totals, quarantine and splits.

    `totals` is None if they were never published.
    """

    home: str
    scans: tuple[Row, ...]
    clinical: tuple[str, ...]
    totals: Row | None
    quarantine: tuple[Row, ...]
    splits: tuple[Split, ...]


@dataclass(frozen=True)
class RunInput:
    """A run's card (None until training has ended) and the lines of its metrics, an epoch each.

    `rates` is what the learning-rate finder found, None if it did not run. `examples` are URIs of pictures of
    predictions by their epoch.
    """

    home: str
    card: Card | None
    epochs: tuple[Row, ...]
    rates: Row | None = None
    examples: Mapping[int, str] = field(default_factory=dict)


@dataclass(frozen=True)
class ScoresInput:
    """A score folder's rows of one model, and how many rows other models have there."""

    home: str
    model_id: str
    scans: tuple[Row, ...]
    other_models: Mapping[str, int]


@dataclass(frozen=True)
class Inputs:
    """What was given to the report; `raw` are scans in raw folders by their id."""

    lake: LakeInput | None = None
    run: RunInput | None = None
    scores: ScoresInput | None = None
    raw: Mapping[str, ScanTask] = field(default_factory=dict)


def read_inputs(
    lake_uri: str | None = None,
    run_uri: str | None = None,
    scores_uri: str | None = None,
    raw_uris: Sequence[str] = (),
) -> Inputs:
    """Read all that was given by canonical URIs.

    Raises InputError for a folder that is not there, LakeVersionError for one of another schema version.
    """
    run = read_run(run_uri) if run_uri else None
    card = run.card if run else None
    return Inputs(
        read_lake(lake_uri) if lake_uri else None,
        run,
        read_scores(scores_uri, card.model_id if card else None) if scores_uri else None,
        read_raw(raw_uris),
    )


def read_raw(homes: Sequence[str]) -> dict[str, ScanTask]:
    """Scans in raw folders by their id; only the folders are listed."""
    files = [
        FoundFile(file.uri, file.size, file.version) for home in homes for file in storage.list_files(home)
    ]
    return {scan.scan_id: scan for scan in discover(files, re.compile(PUBLIC_SCAN_PATTERN)).scans}


def read_lake(home: str) -> LakeInput:
    """Read a lake's small tables."""
    require_lake(home)
    scans = read_small_or_empty(Lake(home).scans, SCANS)
    clinical = tuple(name for name in scans.column_names if name not in SCANS.names)
    summary = Lake(home).profile_summary
    return LakeInput(
        home,
        tuple(scans.to_pylist()),
        clinical,
        storage.read_json(summary) if storage.exists(summary) else None,
        tuple(read_small_or_empty(Lake(home).quarantine, QUARANTINE).to_pylist()),
        tuple(read_split(home, name) for name in _split_names(home)),
    )


def _split_names(home: str) -> list[str]:
    files = storage.list_or_none(Lake(home).split(""))
    names = [
        file.uri.rpartition("/")[2].removesuffix(".json") for file in files if file.uri.endswith(".json")
    ]
    return sorted(name for name in names if not name.startswith("."))


def read_run(home: str, *, leaky: bool = False) -> RunInput:
    """Read a run's card, metrics and figures, as far as they are there yet.

    Raises ConfigError for a model of a split that leaks on purpose, unless `leaky`.
    """
    metrics, rates = Run(home).metrics, Run(home).learning_rates
    card = load_card(home) if storage.exists(card_uri(home)) else None
    if card is not None and not leaky:
        refuse_leaky(card.split, display(home))
    epochs = _json_lines(metrics) if storage.exists(metrics) else ()
    found = storage.read_json(rates) if storage.exists(rates) else None
    if card is None and not epochs and found is None:
        storage.list_files(home)
    return RunInput(home, card, epochs, found, _examples(home))


def _examples(home: str) -> dict[int, str]:
    names = {file.uri.rpartition("/")[2]: file.uri for file in storage.list_or_none(Run(home).figures)}
    return {int(match[1]): uri for name, uri in names.items() if (match := _EXAMPLES.fullmatch(name))}


def _json_lines(uri: str) -> tuple[Row, ...]:
    try:
        lines = [json.loads(line) for line in storage.read_bytes(uri).decode().splitlines() if line.strip()]
    except ValueError as error:
        raise ModelFileError(
            f"{display(uri)} can't be read", expected="one JSON object a line", found=str(error)
        ) from error
    return tuple(line for line in lines if isinstance(line, dict))


def read_scores(home: str, model_id: str | None, *, leaky: bool = False) -> ScoresInput:
    """Read a score folder's rows of the model `model_id`, or of the one that scored last.

    Raises ConfigError for scores by a model of a split that leaks on purpose, unless `leaky`.
    """
    if not leaky:
        refuse_leaky_scores(home)
    uri = join(Scores(home).patients, ONE_FILE)
    if not storage.exists(uri):
        storage.list_files(home)
        return ScoresInput(home, model_id or "", (), {})
    rows = read_file(uri, SCORED_PATIENTS).to_pylist()
    models = Counter(row["model_id"] for row in rows)
    if model_id not in models and rows:
        model_id = max(rows, key=lambda row: row["scored_at"])["model_id"]
    # Two runs with two thresholds leave two rows of a scan: the later one counts.
    latest = {
        row["scan_id"]: row
        for row in sorted(rows, key=lambda row: row["scored_at"])
        if row["model_id"] == model_id
    }
    others = {name: count for name, count in models.items() if name != model_id}
    return ScoresInput(home, model_id or "", tuple(latest[scan_id] for scan_id in sorted(latest)), others)


def split_of(inputs: Inputs) -> Split | None:
    """The split that the run was trained on, if it and its lake are given and still agree."""
    card = inputs.run.card if inputs.run else None
    if inputs.lake is None or card is None:
        return None
    return next(
        (split for split in inputs.lake.splits if split.name == card.split and split.hash == card.split_hash),
        None,
    )


def parts_of(inputs: Inputs) -> Mapping[str, str]:
    """Part of the run's split by patient; empty where it is not known."""
    split = split_of(inputs)
    card = inputs.run.card if inputs.run else None
    if split is None or card is None:
        return {}
    fold = card.training.get("fold")
    if split.folds is not None and fold is None:
        return {}
    return split.parts(fold if split.folds is not None else None)


def read_pixels(inputs: Inputs, scan_id: str) -> Scan | None:
    """A scan's slices from the lake, or else from its raw folder; None where neither holds the scan."""
    rows = inputs.lake.scans if inputs.lake else ()
    row = next((row for row in rows if row["scan_id"] == scan_id), None)
    if inputs.lake is not None and row is not None:
        return read_lake_scan(inputs.lake.home, row)
    if scan_id in inputs.raw:
        scan = read_scan(inputs.raw[scan_id], MAX_PIXELS)
        return scan if scan.slices else None
    return None
