"""Remove a patient from lake, splits, scores and reports, and name what can't be reached."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Collection
from typing import Any

from slicemill.config import ForgetConfig
from slicemill.core.evaluation.seen import was_seen
from slicemill.core.scans.patients import normal
from slicemill.io.lake import withdrawal as lake_withdrawal
from slicemill.io.lake.card import require_lake
from slicemill.io.run.card import load_card
from slicemill.io.scores import withdrawal as scores_withdrawal
from slicemill.io.scores.withdrawal import remove_mentions
from slicemill.io.storage.lock import sole_writer
from slicemill.io.storage.uri import canonical, display

log = logging.getLogger(__name__)


def run(config: ForgetConfig) -> dict[str, Any]:
    """Forget the patients and return the summary. Killed anywhere, it is run again.

    Raises InputError for a lake or a run that is not there, BusyError if another run writes there.
    """
    patients = {normal(patient) for patient in config.patient}
    job_id = f"forget-{uuid.uuid4().hex[:12]}"
    unreached = _unreached(config, patients)
    _require_places(config)
    scans: set[str] = set()
    files, splits = 0, []
    for uri in config.scores:
        home = canonical(uri)
        with sole_writer(home, job_id):
            scored = scores_withdrawal.withdraw(home, patients)
        scans |= set(scored.scans)
        files += scored.files
    if config.lake:
        home = canonical(config.lake)
        with sole_writer(home, job_id) as fence:
            stored = lake_withdrawal.withdraw(fence, patients)
        scans |= set(stored.scans)
        files += stored.files
        splits = list(stored.splits)
    names = {*patients, *scans}
    reports = [page for uri in config.report for page in remove_mentions(canonical(uri), names)]
    if not (scans or splits):
        unreached.append("no scan of the patient was found: check the id, it is spelled as in the lake")
    for sentence in unreached:
        log.warning("%s", sentence)
    return {
        "job": "forget",
        "status": "done",
        "scans": len(scans),
        "files": files + len(reports),
        "splits": splits,
        "reports": [display(uri) for uri in reports],
        "unreached": unreached,
    }


def _require_places(config: ForgetConfig) -> None:
    for uri in config.scores:
        scores_withdrawal.require_scores(canonical(uri))
    if config.lake:
        require_lake(canonical(config.lake))


def _unreached(config: ForgetConfig, patients: Collection[str]) -> list[str]:
    """What still holds something of the patients, in a sentence each."""
    sentences = []
    for uri in config.run:
        answers = [was_seen(load_card(canonical(uri)).patients, patient) for patient in patients]
        if any(answers):
            sentences.append(f"{uri} was trained or chosen on a patient: train another model and remove it")
        elif None in answers:
            sentences.append(f"{uri} does not say which patients it was trained on")
    sentences.append("raw folders are not touched: remove the patient's, or the next ingest reads them again")
    sentences.append("copies elsewhere, such as trackers, logs and backups, are not touched")
    return sentences
