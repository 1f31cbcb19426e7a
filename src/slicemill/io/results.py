"""A result as its readers see it: lake, run and scores together, and the pixels under the scores."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from slicemill.config import MAX_PIXELS, PUBLIC_SCAN_PATTERN
from slicemill.core.evaluation.rows import ScanScore
from slicemill.core.scans.discovery import FoundFile, ScanTask, discover
from slicemill.core.scans.scan import Scan
from slicemill.core.splits import refuse_leaky
from slicemill.io import storage
from slicemill.io.lake.card import require_lake
from slicemill.io.lake.splits import Split
from slicemill.io.lake.tables import LakeTables, read_lake
from slicemill.io.parquet import ONE_FILE
from slicemill.io.places import Run, Scores
from slicemill.io.raw.listing import scan_pattern
from slicemill.io.raw.scan_reader import read_scan
from slicemill.io.run.card import load_card
from slicemill.io.run.record import RunRecord, read_run
from slicemill.io.scores.folder import refuse_leaky_scores
from slicemill.io.scores.results import PredictedScan, ScoreTables, read_scores
from slicemill.io.storage.uri import display, join
from slicemill.types import Uri

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Results:
    """What belongs together of a lake, a run and a score folder; any of them may be missing.

    `raw` are scans in raw folders by their id, for pictures of scans that no lake holds. `scan_pattern` is
    how scan folders are named.
    """

    lake: LakeTables | None = None
    run: RunRecord | None = None
    scores: ScoreTables | None = None
    raw: Mapping[str, ScanTask] = field(default_factory=dict)
    scan_pattern: re.Pattern[str] = field(default_factory=lambda: scan_pattern(PUBLIC_SCAN_PATTERN))

    @property
    def split(self) -> Split | None:
        """The split that the run was trained on, if its lake is here and still has it unchanged."""
        card = self.run.card if self.run else None
        if self.lake is None or card is None:
            return None
        agreeing = (
            split for split in self.lake.splits if split.name == card.split and split.hash == card.split_hash
        )
        return next(agreeing, None)

    @property
    def parts(self) -> Mapping[str, str]:
        """Part of the run's split by patient; empty where it is not known."""
        split = self.split
        card = self.run.card if self.run else None
        if split is None or card is None:
            return {}
        if split.folds is None:
            return split.parts()
        fold = card.training.get("fold")
        return {} if fold is None else split.parts(fold, card.training.get("val_share"))

    def scan(self, scan_id: str) -> Scan | None:
        """A scan's slices from the lake, or else from its raw folder; None where neither holds it."""
        if self.lake is not None and any(row.scan_id == scan_id for row in self.lake.scans):
            return self.lake.scan(scan_id)
        if scan_id in self.raw:
            scan = read_scan(self.raw[scan_id], MAX_PIXELS)
            return scan if scan.slices else None
        return None

    def predicted_scan(self, row: ScanScore) -> PredictedScan | None:
        """A scan with its predicted slices, by its row of the scored scans.

        None where neither lake nor raw folders hold it, or none of its slices was scored.
        """
        scan = self.scan(row.scan_id) if row.slices else None
        if scan is None or self.scores is None:
            return None
        return PredictedScan(scan, self.scores.predictions(row), self.scores.levels(row))

    def predicted_scan_of(self, scan_id: str) -> PredictedScan | None:
        """A scan with its predicted slices, by its id; None as from `predicted_scan`, or if never scored."""
        rows = self.scores.scans if self.scores else ()
        row = next((row for row in rows if row.scan_id == scan_id), None)
        return self.predicted_scan(row) if row else None


def require_inputs(lake_uri: Uri | None, run_uri: Uri | None, scores_uri: Uri | None) -> None:
    """Raise for an input that `read_results` would refuse by its name, version or split; cheap.

    A run locks its output only after that, so that an input that is refused leaves no folder behind.
    """
    if lake_uri:
        require_lake(lake_uri)
    if run_uri and storage.exists(Run(run_uri).card):
        refuse_leaky(load_card(run_uri).split, display(run_uri))
    elif run_uri:
        storage.list_files(run_uri)
    if scores_uri:
        refuse_leaky_scores(scores_uri)
        if not storage.exists(join(Scores(scores_uri).patients, ONE_FILE)):
            storage.list_files(scores_uri)


def read_results(
    lake_uri: Uri | None = None,
    run_uri: Uri | None = None,
    scores_uri: Uri | None = None,
    raw_uris: Sequence[Uri] = (),
) -> Results:
    """Read the small tables of what is named by canonical URIs; of raw folders only the listing.

    Scan folders are named by the lake's own pattern, without a lake by the public data set's. Raises
    InputError for a folder that does not exist, LakeVersionError for one of another schema version.
    """
    lake = read_lake(lake_uri) if lake_uri else None
    run = read_run(run_uri) if run_uri else None
    model_id = run.card.model_id if run and run.card else None
    scores = read_scores(scores_uri, model_id) if scores_uri else None
    pattern = scan_pattern((lake.scan_pattern if lake else None) or PUBLIC_SCAN_PATTERN)
    return Results(lake, run, scores, _raw_scans(raw_uris, pattern), pattern)


def _raw_scans(homes: Sequence[Uri], pattern: re.Pattern[str]) -> dict[str, ScanTask]:
    files = [
        FoundFile(file.uri, file.size, file.version) for home in homes for file in storage.list_files(home)
    ]
    return {scan.scan_id: scan for scan in discover(files, pattern).scans}
