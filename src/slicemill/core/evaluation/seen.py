"""Which patients a model has seen: its card names them by hash, scoring asks it for each scan."""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Iterable, Mapping, Sequence

from slicemill.core.evaluation.rows import ScanScore

_HASH_BYTES = 8


def patient_hash(patient_id: str) -> str:
    """16 hex digits that stand for a patient's id, compared in Unicode's form NFC."""
    text = unicodedata.normalize("NFC", patient_id)
    return hashlib.blake2b(text.encode(), digest_size=_HASH_BYTES, person=b"slicemill").hexdigest()


def patient_hashes(patients: Mapping[str, Iterable[str]]) -> dict[str, list[str]]:
    """Hashes of the patients of each part, sorted: what a model card holds."""
    return {part: sorted(map(patient_hash, set(of_part))) for part, of_part in patients.items()}


def joined_patients(cards: Sequence[Mapping[str, Sequence[str]]]) -> dict[str, list[str]]:
    """Patients that any of several models has seen; empty if one of them does not say."""
    if not all(cards):
        return {}
    parts = sorted({part for card in cards for part in card})
    return {part: sorted({name for card in cards for name in card.get(part, ())}) for part in parts}


def was_seen(patients: Mapping[str, Sequence[str]], patient_id: str) -> bool | None:
    """Whether a model with these patients on its card has seen this one; None if the card names none."""
    if not patients:
        return None
    hashed = patient_hash(patient_id)
    return any(hashed in of_part for of_part in patients.values())


def unseen_and_seen(rows: Iterable[ScanScore]) -> tuple[list[ScanScore], list[ScanScore]]:
    """Rows of patients that the model has not seen, as far as is known, and rows of those that it has."""
    unseen: list[ScanScore] = []
    seen_rows: list[ScanScore] = []
    for row in rows:
        (seen_rows if row.seen else unseen).append(row)
    return unseen, seen_rows
