"""Assign patients to parts or folds: disjoint, complete, stratified, deterministic and stable.

Within strata (institution, tumour share) patients are taken in an order that only their id and the seed
decide, and each goes where the quota method sends it, so that every part stays within one patient of its
share at every moment. Patients that were assigned before keep their place.

Source of the quota method: R. Tijdeman, The chairman assignment problem, Discrete Mathematics 32 (1980).
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from slicemill.errors import ConfigError, InputError

PARTS = ("train", "val", "test")
_SHARE_STRATA = 3

#: First part of the name of every split that leaks on purpose, and of no other.
LEAKY = "leaky-"


@dataclass(frozen=True)
class PatientFacts:
    """What stratification knows of a patient: institution and share of tumour voxels."""

    patient_id: str
    institution: str
    tumour_share: float


def assign(
    patients: Sequence[PatientFacts],
    shares: Mapping[str, float],
    seed: int,
    earlier: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """Part by patient id; `shares` by part add up to 1, `earlier` assignments of patients at hand stay."""
    known = {facts.patient_id for facts in patients}
    assigned = {patient: part for patient, part in (earlier or {}).items() if patient in known}
    used = {part: share for part, share in shares.items() if share > 0}
    counts = Counter(dict.fromkeys(used, 0))
    counts.update(assigned.values())
    for patient_id in _order([facts for facts in patients if facts.patient_id not in assigned], seed):
        part = _next_part(counts, used)
        assigned[patient_id] = part
        counts[part] += 1
    return dict(sorted(assigned.items()))


def _order(patients: Sequence[PatientFacts], seed: int) -> list[str]:
    by_share = sorted(patients, key=lambda facts: (facts.tumour_share, facts.patient_id))
    band = {facts.patient_id: rank * _SHARE_STRATA // len(patients) for rank, facts in enumerate(by_share)}

    def key(facts: PatientFacts) -> tuple[str, int, bytes]:
        draw = hashlib.blake2b(f"{seed}|{facts.patient_id}".encode(), digest_size=8).digest()
        return facts.institution, band[facts.patient_id], draw

    return [facts.patient_id for facts in sorted(patients, key=key)]


def _next_part(counts: Mapping[str, int], shares: Mapping[str, float]) -> str:
    if len(shares) == 1:
        return next(iter(shares))
    slack = 1 / (2 * len(shares) - 2)
    number = sum(counts.values()) + 1
    deficits = {part: share * number - counts[part] for part, share in shares.items()}
    due = [part for part in shares if deficits[part] >= slack - 1e-12]
    if not due:
        return max(shares, key=lambda part: deficits[part])
    return min(due, key=lambda part: (1 - slack - deficits[part]) / shares[part])


def hold_out(
    patients: Iterable[str], scans: Mapping[str, str], named: Iterable[str]
) -> tuple[set[str], list[str]]:
    """Patients that a holdout list names, by patient or scan id, and the names that no scan has.

    `scans` gives the patient of each scan id.
    """
    known = set(patients)
    held, unknown = set(), []
    for name in named:
        patient = name if name in known else scans.get(name)
        if patient is None:
            unknown.append(name)
        else:
            held.add(patient)
    return held, sorted(unknown)


def split_hash(assigned: Mapping[str, str]) -> str:
    """SHA-256 over the sorted assignment."""
    text = "".join(f"{patient}\t{part}\n" for patient, part in sorted(assigned.items()))
    return hashlib.sha256(text.encode()).hexdigest()


def check_disjoint(rows: Iterable[tuple[str, str]]) -> None:
    """Raise InputError if a patient of (patient id, part) rows is on two sides."""
    seen: dict[str, str] = {}
    for patient_id, part in rows:
        if seen.setdefault(patient_id, part) != part:
            raise InputError(
                "a patient is on two sides of the split",
                expected="one part a patient",
                found=f"{patient_id} in {seen[patient_id]} and {part}",
                advice="Make the split again under a new name.",
            )


def parts_of_fold(fold_of: Mapping[str, int], fold: int) -> dict[str, str]:
    """Parts by patient when `fold` is tested: the next fold validates, the others train."""
    folds = max(fold_of.values()) + 1
    validating = (fold + 1) % folds
    return {
        patient: "test" if of == fold else "val" if of == validating else "train"
        for patient, of in fold_of.items()
    }


def leaky_name(split: str) -> str:
    """Name of the split into the folds of `split`, but by random slice."""
    return f"{LEAKY}slices-of-{split}"


def refuse_leaky(split: str, where: str) -> None:
    """Raise ConfigError for a split that leaks on purpose, or what was trained on one."""
    if split.startswith(LEAKY):
        raise ConfigError(
            f"{where} is of a split that leaks on purpose: slices of one patient are on both sides",
            expected="a split by patient",
            found=split,
            advice="Its numbers are no result; slicemill compare --show-leak sets them beside honest ones.",
        )


def leaky_folds(slices: Iterable[tuple[str, int]], folds: int, seed: int) -> dict[tuple[str, int], int]:
    """Fold of each (scan id, slice index), drawn as if slices were independent, which they are not.

    The split of the replaced systems, kept to measure what its leak is worth. Folds differ by one slice at
    most; the draw depends on ids and seed alone.
    """

    def key(one: tuple[str, int]) -> bytes:
        return hashlib.blake2b(f"{seed}|{one[0]}|{one[1]}".encode(), digest_size=8).digest()

    return {one: place % folds for place, one in enumerate(sorted(slices, key=key))}
