"""Assign patients to parts or folds: disjoint, complete, stratified, deterministic and stable.

Within strata (institution, tumour share) patients are taken in an order that only their id and the seed
decide, and each goes where the quota method sends it, so that every part stays within one patient of its
share at every moment, or has one patient where its share is less. Patients that were assigned before keep
their place.

Source of the quota method: R. Tijdeman, The chairman assignment problem, Discrete Mathematics 32 (1980).
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from slicemill.core.scans.patients import normal, patient_key
from slicemill.errors import ConfigError, InputError

PARTS = ("train", "val", "test")
_SHARE_STRATA = 3

#: First part of the name of every split that leaks on purpose, and of no other.
LEAKY = "leaky-"


@dataclass(frozen=True)
class PatientFacts:
    """What stratification knows of a patient: institution, share of tumour voxels, whether masks exist."""

    patient_id: str
    institution: str
    tumour_share: float
    labelled: bool = True


@dataclass(frozen=True)
class _Unit:
    """Patients that stay together, most often one; the facts are theirs in common."""

    facts: PatientFacts
    patients: tuple[str, ...]


def assign(
    patients: Sequence[PatientFacts],
    shares: Mapping[str, float],
    seed: int,
    earlier: Mapping[str, str] | None = None,
    together: Iterable[Collection[str]] = (),
) -> dict[str, str]:
    """Part by patient id; `shares` by part add up to 1, `earlier` assignments of patients at hand stay.

    The patients of each group of `together` go to one part. Patients without masks are assigned apart from
    the others, so that every part has its share of both. Raises InputError if an earlier assignment parts a
    group, ConfigError if a part would stay empty.
    """
    quotas = {part: share for part, share in shares.items() if share > 0}
    units = _units(patients, together)
    _require_enough(units, quotas, len(patients))
    part_of = _placed(units, earlier or {})
    parts_in_use = set(part_of.values())
    for labelled in (True, False):
        stratum = [unit for unit in units if unit.facts.labelled is labelled]
        _assign_stratum(stratum, quotas, seed, part_of, parts_in_use)
    assigned = {patient: part_of[unit] for unit in units for patient in unit.patients}
    return dict(sorted(assigned.items()))


def _units(patients: Sequence[PatientFacts], together: Iterable[Collection[str]]) -> list[_Unit]:
    facts_of = {facts.patient_id: facts for facts in patients}
    unit_of: dict[str, tuple[str, ...]] = {patient: (patient,) for patient in facts_of}
    for group in together:
        members = sorted({member for patient in group if patient in unit_of for member in unit_of[patient]})
        unit_of |= dict.fromkeys(members, tuple(members))
    return [_unit([facts_of[patient] for patient in unit]) for unit in sorted(set(unit_of.values()))]


def _unit(members: Sequence[PatientFacts]) -> _Unit:
    share = sum(facts.tumour_share for facts in members) / len(members)
    labelled = any(facts.labelled for facts in members)
    facts = PatientFacts(members[0].patient_id, members[0].institution, share, labelled)
    return _Unit(facts, tuple(facts.patient_id for facts in members))


def _require_enough(units: Sequence[_Unit], quotas: Mapping[str, float], patients: int) -> None:
    if len(units) >= len(quotas):
        return
    supply = f"{len(units)} of {patients}, as some stay together" if len(units) < patients else str(patients)
    raise ConfigError(
        f"a split into {len(quotas)} parts would leave a part empty",
        expected=f"at least {len(quotas)} patients that can be told apart",
        found=supply,
        advice="Ask for fewer parts or folds, at least 3 folds, or ingest more patients.",
    )


def _placed(units: Sequence[_Unit], earlier: Mapping[str, str]) -> dict[_Unit, str]:
    part_of = {}
    for unit in units:
        parts = sorted({earlier[patient] for patient in unit.patients if patient in earlier})
        if len(parts) > 1:
            raise InputError(
                "patients that share pictures, or an id but for its spelling, are on two sides of the split",
                expected="one part for all of them",
                found=f"{len(unit.patients)} patients in {' and '.join(parts)}",
                advice="Make a new split under another --name.",
            )
        if parts:
            part_of[unit] = parts[0]
    return part_of


def _assign_stratum(
    units: Sequence[_Unit],
    shares: Mapping[str, float],
    seed: int,
    part_of: dict[_Unit, str],
    parts_in_use: set[str],
) -> None:
    """Place the units that have no part yet, each where the quota method sends it; no part stays empty."""
    counts = Counter(dict.fromkeys(shares, 0))
    for unit in units:
        if unit in part_of:
            counts[part_of[unit]] += len(unit.patients)
    waiting = _order([unit for unit in units if unit not in part_of], seed)
    for position, unit in enumerate(waiting):
        empty = {part: share for part, share in shares.items() if part not in parts_in_use}
        # The last units go to parts that have none.
        scarce = len(waiting) - position <= len(empty)
        part = (
            max(empty, key=lambda part: empty[part])
            if scarce
            else _next_part(counts, shares, len(unit.patients))
        )
        part_of[unit] = part
        parts_in_use.add(part)
        counts[part] += len(unit.patients)


def _order(units: Sequence[_Unit], seed: int) -> list[_Unit]:
    by_share = sorted(units, key=lambda unit: (unit.facts.tumour_share, unit.facts.patient_id))
    band = {unit: rank * _SHARE_STRATA // len(units) for rank, unit in enumerate(by_share)}

    def key(unit: _Unit) -> tuple[str, int, bytes]:
        draw = hashlib.blake2b(f"{seed}|{unit.facts.patient_id}".encode(), digest_size=8).digest()
        return unit.facts.institution, band[unit], draw

    return sorted(units, key=key)


def _next_part(counts: Mapping[str, int], shares: Mapping[str, float], patients: int) -> str:
    if len(shares) == 1:
        return next(iter(shares))
    slack = 1 / (2 * len(shares) - 2)
    number = sum(counts.values()) + patients
    deficits = {part: share * number - counts[part] for part, share in shares.items()}
    due = [part for part in shares if deficits[part] >= slack - 1e-12]
    if not due:
        return max(shares, key=lambda part: deficits[part])
    return min(due, key=lambda part: (1 - slack - deficits[part]) / shares[part])


def groups_of_patients(
    patients: Iterable[str], pictures: Iterable[Collection[str]]
) -> tuple[tuple[str, ...], ...]:
    """Patients that can't be told apart, in groups: by pictures that they share, or but for an id's spelling.

    `pictures` are groups of patients that have a picture in common. Groups with a patient in common are one.
    """
    group_of: dict[str, frozenset[str]] = {}
    by_key: dict[str, set[str]] = defaultdict(set)
    for patient in patients:
        by_key[patient_key(patient)].add(patient)
    for group in (*pictures, *by_key.values()):
        members = frozenset(group).union(*(group_of.get(patient, ()) for patient in group))
        group_of |= dict.fromkeys(members, members)
    return tuple(sorted(tuple(sorted(group)) for group in set(group_of.values()) if len(group) > 1))


def hold_out(
    patients: Iterable[str], scans: Mapping[str, str], names: Iterable[str]
) -> tuple[set[str], list[str]]:
    """Patients that a holdout list names, by patient or scan id, and the names that no scan has.

    `scans` gives the patient of each scan id. Ids are compared in Unicode's composed form.
    """
    of_patient = {normal(patient): patient for patient in patients}
    of_scan = {normal(scan_id): patient for scan_id, patient in scans.items()}
    holdout, unknown = set(), []
    for name in names:
        patient = of_patient.get(normal(name)) or of_scan.get(normal(name))
        if patient is None:
            unknown.append(name)
        else:
            holdout.add(patient)
    return holdout, sorted(unknown)


def split_hash(assigned: Mapping[str, str]) -> str:
    """SHA-256 over the sorted assignment."""
    text = "".join(f"{patient}\t{part}\n" for patient, part in sorted(assigned.items()))
    return hashlib.sha256(text.encode()).hexdigest()


def check_disjoint(rows: Iterable[tuple[str, str]]) -> None:
    """Raise InputError if a patient of (patient id, part) rows is on two sides."""
    part_of: dict[str, str] = {}
    for patient_id, part in rows:
        if part_of.setdefault(patient_id, part) != part:
            raise InputError(
                "a patient is on two sides of the split",
                expected="one part a patient",
                found=f"{patient_id} in {part_of[patient_id]} and {part}",
                advice="Make the split again under a new name.",
            )


def parts_of_fold(
    fold_of: Mapping[str, int],
    fold: int,
    val_share: float | None = None,
    together: Iterable[Collection[str]] = (),
) -> dict[str, str]:
    """Parts by patient when `fold` is tested: the next fold validates, the others train.

    With `val_share` so much of the patients of all other folds validates instead, at least one, in an order
    that the fold and their ids decide, and the rest trains. Patients of a group of `together` stay together.

    >>> parts_of_fold({"a": 0, "b": 1, "c": 2}, fold=2)
    {'a': 'val', 'b': 'train', 'c': 'test'}
    """
    if val_share is None:
        validating = (fold + 1) % (max(fold_of.values()) + 1)
        val = {patient for patient, of in fold_of.items() if of == validating}
    else:
        val = _val_patients(
            [patient for patient, of in fold_of.items() if of != fold], fold, val_share, together
        )
    return {
        patient: "test" if of == fold else "val" if patient in val else "train"
        for patient, of in fold_of.items()
    }


def _val_patients(
    patients: Sequence[str], fold: int, share: float, together: Iterable[Collection[str]]
) -> set[str]:
    """A share of the patients by the order of a hash, whole groups of it, and never all."""
    groups = {patient: frozenset(group) for group in together for patient in group}

    def key(patient: str) -> bytes:
        # A group stands where its first patient does.
        first = min(groups.get(patient, (patient,)))
        return hashlib.blake2b(f"{fold}|{first}".encode(), digest_size=8).digest()

    others, val = frozenset(patients), set[str]()
    for patient in sorted(patients, key=lambda patient: (key(patient), patient)):
        group = groups.get(patient, frozenset((patient,))) & others
        if patient not in val and len(val) + len(group) < len(others):
            val |= group
        if len(val) >= share * len(patients):
            break
    return val


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

    def key(sample: tuple[str, int]) -> bytes:
        return hashlib.blake2b(f"{seed}|{sample[0]}|{sample[1]}".encode(), digest_size=8).digest()

    return {sample: place % folds for place, sample in enumerate(sorted(slices, key=key))}
