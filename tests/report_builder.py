"""A lake, a run and scores of three tiny synthetic scans, for tests of reports; written without Spark.

Slices 1 to 4 of a scan have 0, 4, 0 and 16 tumour pixels at the top left (see `raw_builder`), so 20 in all.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from lock_holder import held_fence

from slicemill.config import PUBLIC_SCAN_PATTERN
from slicemill.core.evaluation.dice import ScanScores, dice_from_counts, scan_scores, slice_counts
from slicemill.core.evaluation.rows import ScanScore, ScoredSlice
from slicemill.core.profiles.lake_profile import summarise
from slicemill.core.scans.discovery import FoundFile, discover
from slicemill.core.scans.normalise import RULE_NAMES
from slicemill.core.scans.scan import SEQUENCES
from slicemill.core.splits import split_hash
from slicemill.io import storage
from slicemill.io.lake.reader import read_lake_scan, read_scans
from slicemill.io.lake.rows import columns
from slicemill.io.lake.scan_ingest import ingest_scan
from slicemill.io.lake.splits import Split, write_split
from slicemill.io.lake.writer import LakeWriter
from slicemill.io.parquet import write_small
from slicemill.io.places import Lake, Run, Scores
from slicemill.io.run.card import Card, save_card
from slicemill.io.scores.extras import NO_EXTRAS, Extras
from slicemill.io.scores.writer import ScanOutput, ScoreWriter
from slicemill.io.storage.lock import sole_writer
from slicemill.schemas import QUARANTINE, SCANS, SCHEMA_VERSION, SCORED_PATIENTS, TOTALS

PERFECT, MISSED, FALSE_ALARM = "TEST_AA_0001_20200101", "TEST_AA_0002_20200102", "TEST_BB_0003_20200103"
#: Volumetric Dice of `predict`, by hand: all of 20; none of 20; 16 of 20 with 20 predicted.
DICE = {PERFECT: 1.0, MISSED: 0.0, FALSE_ALARM: 0.8}
MODEL = "ab" * 32
NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)


def write_lake(
    home: str,
    raw: Path,
    quarantine: Sequence[Mapping[str, Any]] = (),
    clinical: Mapping[str, Sequence[Any]] | None = None,
) -> None:
    """Ingest raw scan folders into a lake at a canonical URI; clinical columns have a value a scan."""
    files = [FoundFile(file.uri, file.size, file.version) for file in storage.list_files(f"file://{raw}")]
    tasks = discover(files, re.compile(PUBLIC_SCAN_PATTERN)).scans
    with sole_writer(home, "ingest-test") as fence:
        writer = LakeWriter(fence, 0, "ingest-test", NOON)
        commits = [ingest_scan(task, writer, 1_000_000) for task in tasks]
    extra = clinical or {}
    scans = [
        {**columns(commit.scan), **{name: values[place] for name, values in extra.items()}}
        for place, commit in enumerate(commits)
        if commit.scan
    ]
    totals = [columns(commit.totals) for commit in commits if commit.totals]
    write_small(
        Lake(home).scans,
        SCANS,
        scans,
        [pa.field(name, pa.array(values).type) for name, values in extra.items()],
    )
    write_small(Lake(home).totals, TOTALS, totals)
    write_small(Lake(home).quarantine, QUARANTINE, quarantine)
    storage.write_json(Lake(home).profile_summary, summarise(scans, totals))
    storage.write_json(Lake(home).card, {"schema_version": SCHEMA_VERSION})


def add_split(home: str, name: str, assigned: Mapping[str, str]) -> str:
    """Store a split of the lake and return its hash."""
    card = {"method": "by hand", "seed": 0, "hash": split_hash(assigned)}
    write_split(home, Split(name, assigned, card))
    return split_hash(assigned)


def quarantine_row(reason: str, uri: str, detail: str = "synthetic") -> dict[str, Any]:
    """A row of the quarantine."""
    return {"uri": uri, "reason": reason, "detail": detail, "job_id": "ingest-test", "time": NOON}


def write_run(home: str, epochs: int = 3, split: str = "none", hash_: str = "0") -> Card:
    """A run's card and metrics, of a model that never was."""
    card = Card(
        task="segment",
        architecture="unet-resnet18",
        channels=SEQUENCES,
        normalisation=RULE_NAMES["volume"],
        input_size=64,
        threshold=0.5,
        split=split,
        split_hash=hash_,
        data_hash="0",
        metrics={"val_dice": 0.75},
        versions={"python": "3.11"},
        training={"epochs": epochs, "fold": None},
        weights_sha256=MODEL,
    )
    save_card(home, card)
    write_metrics(home, epochs)
    return card


def write_metrics(home: str, epochs: int) -> None:
    """Metrics of some epochs, the best of which is the last."""
    lines = [
        {
            "epoch": epoch,
            "train_loss": 1 / epoch,
            "val_dice": 0.2 + 0.1 * epoch,
            "val_dice_by_scan": {"a": 0.1 * epoch, "b": 0.3 + 0.1 * epoch},
            "learning_rate": 1e-3,
            "slices_per_second": 10.0,
        }
        for epoch in range(1, epochs + 1)
    ]
    storage.write_bytes(Run(home).metrics, "".join(json.dumps(line) + "\n" for line in lines).encode())


def predict(scan_id: str, truth: np.ndarray) -> np.ndarray:
    """A scan's predicted masks, axes (S, H, W)."""
    predicted = truth.copy()
    if scan_id == MISSED:
        predicted[:] = 0
    if scan_id == FALSE_ALARM:
        predicted[:2] = 0
        predicted[0, 10:12, 20:22] = 1
    return predicted


def levels(predicted: np.ndarray) -> np.ndarray:
    """Probabilities of predicted masks in steps of 1/255: 230 inside, and one half in the last corner."""
    steps = predicted * np.uint8(230)
    steps[:, -1, -1] = 128
    return steps


def write_scores(
    home: str,
    lake_home: str,
    truth: bool = True,
    classifier: bool = False,
    extras: Extras = NO_EXTRAS,
) -> list[ScanScore]:
    """Scores of the lake's scans by `predict`; without `truth` as if they had no masks.

    A classifier says 0.9 of the slices that `predict` draws something on, 0.2 of the others.
    """
    writer = ScoreWriter(held_fence(home), "masks", MODEL[:16], "score-test", extras)
    rows = []
    for place, row in enumerate(read_scans(lake_home)):
        scan = read_lake_scan(lake_home, row)
        masks = np.stack([one.mask for one in scan.slices])
        predicted = predict(scan.scan_id, masks)
        agreement = scan_scores(predicted, masks)
        counts = slice_counts(predicted, masks)
        peaks = np.where(predicted.any(axis=(1, 2)), 0.9, 0.2)
        if not truth:
            scan = replace(scan, slices=tuple(replace(one, mask=None) for one in scan.slices))
        score = ScanScore(
            scan.patient_id,
            scan.scan_id,
            slices=len(masks),
            labelled_slices=len(masks) if truth else 0,
            warnings=("synthetic warning",) if place == 0 else (),
            threshold=0.5,
            **_numbers(agreement, truth, classifier),
        )
        slices = tuple(
            ScoredSlice(
                slice_index=one.slice_index,
                height=mask.shape[0],
                width=mask.shape[1],
                mask=None if classifier else np.packbits(mask).tobytes(),
                tumour_pixels=None if classifier else int(of_slice[1]),
                true_pixels=int(of_slice[2]) if truth else None,
                overlap_pixels=int(of_slice[0]) if truth and not classifier else None,
                max_probability=float(peak),
                dice=dice_from_counts(*map(int, of_slice)) if truth and not classifier else None,
            )
            for one, mask, of_slice, peak in zip(scan.slices, predicted, counts, peaks, strict=True)
        )
        output = ScanOutput(scan, None if classifier else predicted, slices, score, levels(predicted))
        rows.append(writer.write(output, "0", "key", ()).score)
    write_small(Scores(home).patients, SCORED_PATIENTS, [vars(row) for row in rows])
    return rows


def _numbers(found: ScanScores, truth: bool, classifier: bool) -> dict[str, Any]:
    if not classifier:
        return dict(vars(found)) if truth else {"predicted_volume": found.predicted_volume}
    return {"predicted_volume": None, "true_volume": found.true_volume if truth else None}
