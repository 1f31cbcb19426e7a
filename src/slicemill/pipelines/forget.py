"""Remove a patient from lake, splits, scores and reports, and name what can't be reached."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Collection, Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from slicemill.config import ForgetConfig
from slicemill.core.evaluation.seen import was_seen
from slicemill.core.scans.patients import normal
from slicemill.io import storage
from slicemill.io.lake import withdrawal as lake_withdrawal
from slicemill.io.lake.card import require_lake
from slicemill.io.places import Reports
from slicemill.io.run.card import load_card
from slicemill.io.scores import withdrawal as scores_withdrawal
from slicemill.io.scores.withdrawal import remove_mentions
from slicemill.io.storage.fence import Fence
from slicemill.io.storage.lock import sole_writer
from slicemill.io.storage.uri import canonical, display
from slicemill.types import Uri

log = logging.getLogger(__name__)


def run(config: ForgetConfig) -> dict[str, Any]:
    """Forget the patients and return the summary. Killed anywhere, it is run again.

    Raises InputError for a lake or a run that is not there, BusyError if another run writes there; nothing is
    removed then.
    """
    patients = {normal(patient) for patient in config.patient}
    unreached = _unreached(config, patients)
    _require_places(config)
    with ExitStack() as locks:
        fences = _lock_places(config, locks)
        scans = _scans(config, patients)
        # Pages go first: later nothing tells which scans were the patients'.
        pages = [page for fence in fences.reports for page in remove_mentions(fence, {*patients, *scans})]
        pages += [uri for fence in fences.reports for uri in _remove_sheets(fence, scans)]
        files = len(pages)
        files += sum(scores_withdrawal.withdraw(fence, patients).files for fence in fences.scores)
        splits: list[str] = []
        if fences.lake:
            removal = lake_withdrawal.withdraw(fences.lake, patients)
            files += removal.files
            splits = list(removal.splits)
    if not (scans or splits):
        unreached.append("no scan of the patient was found: check the id, it is spelled as in the lake")
    for sentence in unreached:
        log.warning("%s", sentence)
    return {
        "job": "forget",
        "status": "done",
        "scans": len(scans),
        "files": files,
        "splits": splits,
        "reports": [display(uri) for uri in pages],
        "unreached": unreached,
    }


@dataclass(frozen=True)
class _Fences:
    """The locks of all places, held until the end: no run writes meanwhile what it read before."""

    reports: tuple[Fence, ...]
    scores: tuple[Fence, ...]
    lake: Fence | None


def _lock_places(config: ForgetConfig, locks: ExitStack) -> _Fences:
    job_id = f"forget-{uuid.uuid4().hex[:12]}"

    def lock(home: Uri) -> Fence:
        return locks.enter_context(sole_writer(home, job_id))

    return _Fences(
        # A lock would make a folder that is not there.
        tuple(lock(home) for home in _places(config.report) if storage.list_or_none(home)),
        tuple(map(lock, _places(config.scores))),
        lock(canonical(config.lake)) if config.lake else None,
    )


def _remove_sheets(fence: Fence, scans: Collection[str]) -> list[Uri]:
    """Remove the contact sheets of these scans and return them; no text in them names a patient."""
    sheets = [uri for uri in map(Reports(fence.home).sheet, sorted(scans)) if storage.exists(uri)]
    storage.each(fence.remove, sheets, fence.home)
    return sheets


def _places(uris: Iterable[str]) -> tuple[Uri, ...]:
    """Canonical URIs, each once."""
    return tuple(dict.fromkeys(map(canonical, uris)))


def _scans(config: ForgetConfig, patients: Collection[str]) -> set[str]:
    of_scores = [scores_withdrawal.scans_of(canonical(uri), patients) for uri in config.scores]
    of_lake = [lake_withdrawal.scans_of(canonical(config.lake), patients)] if config.lake else []
    return set().union(*of_scores, *of_lake)


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
    sentences += [
        f"{uri} holds no report" for uri in config.report if not storage.list_or_none(canonical(uri))
    ]
    sentences.append("raw folders are not touched: remove the patient's, or the next ingest reads them again")
    sentences.append("copies elsewhere, such as trackers, logs and backups, are not touched")
    return sentences
