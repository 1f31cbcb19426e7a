from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slicemill.core.splits import PatientFacts, assign, check_disjoint, hold_out, parts_of_fold, split_hash
from slicemill.errors import InputError

patients = st.lists(
    st.builds(
        PatientFacts,
        st.integers(0, 999).map("P{}".format),
        st.sampled_from(["CS", "DU", "HT"]),
        st.floats(0, 0.2),
    ),
    unique_by=lambda facts: facts.patient_id,
    min_size=1,
    max_size=60,
)
shares = st.one_of(
    st.integers(2, 8).map(lambda folds: {f"fold-{fold}": 1 / folds for fold in range(folds)}),
    st.tuples(st.integers(1, 20), st.integers(0, 20), st.integers(0, 20)).map(
        lambda weights: dict(zip(("train", "val", "test"), (w / sum(weights) for w in weights), strict=True))
    ),
)


@settings(max_examples=200, deadline=None)
@given(patients, shares, st.integers(0, 5))
def test_complete_balanced_and_deterministic(
    facts: list[PatientFacts], wanted: dict[str, float], seed: int
) -> None:
    assigned = assign(facts, wanted, seed)
    assert set(assigned) == {one.patient_id for one in facts}
    counts = Counter(assigned.values())
    for part, share in wanted.items():
        assert abs(counts[part] - share * len(facts)) < 1 + 1e-9
    assert assign(facts[::-1], wanted, seed) == assigned


@settings(max_examples=200, deadline=None)
@given(patients, shares, st.integers(0, 5), st.data())
def test_adding_patients_never_moves_one(
    facts: list[PatientFacts], wanted: dict[str, float], seed: int, data: st.DataObject
) -> None:
    first = facts[: data.draw(st.integers(0, len(facts)))]
    earlier = assign(first, wanted, seed) if first else {}
    later = assign(facts, wanted, seed, earlier)
    assert {patient: later[patient] for patient in earlier} == earlier
    counts = Counter(later.values())
    for part, share in wanted.items():
        assert abs(counts[part] - share * len(facts)) < 1 + 1e-9


def test_institutions_are_spread_over_the_parts() -> None:
    facts = [PatientFacts(f"{home}{n}", home, n / 100) for home in ("A", "B") for n in range(20)]
    assigned = assign(facts, {"train": 0.5, "test": 0.5}, 0)
    for home in ("A", "B"):
        assert Counter(part for patient, part in assigned.items() if patient[0] == home) == {
            "train": 10,
            "test": 10,
        }


def test_seeds_differ() -> None:
    facts = [PatientFacts(f"P{n}", "A", 0.0) for n in range(30)]
    assert assign(facts, {"train": 0.5, "test": 0.5}, 0) != assign(facts, {"train": 0.5, "test": 0.5}, 1)


def test_a_holdout_names_scans_or_patients() -> None:
    scans = {"A_1": "A", "A_2": "A", "B_1": "B"}
    assert hold_out(["A", "B"], scans, ["A_2", "B", "C_9"]) == ({"A", "B"}, ["C_9"])


def test_a_patient_on_two_sides_is_refused() -> None:
    check_disjoint([("A", "train"), ("B", "test"), ("A", "train")])
    with pytest.raises(InputError, match="A in train and test"):
        check_disjoint([("A", "train"), ("A", "test")])


def test_folds_become_parts() -> None:
    assert parts_of_fold({"A": 0, "B": 1, "C": 2}, 2) == {"A": "val", "B": "train", "C": "test"}


def test_the_hash_knows_the_assignment_only() -> None:
    assert split_hash({"A": "train", "B": "test"}) == split_hash({"B": "test", "A": "train"})
    assert split_hash({"A": "train", "B": "test"}) != split_hash({"A": "test", "B": "train"})
