from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slicemill.core.splits import (
    PatientFacts,
    assign,
    check_disjoint,
    groups_of_patients,
    hold_out,
    parts_of_fold,
    split_hash,
)
from slicemill.errors import ConfigError, InputError

patients = st.lists(
    st.builds(
        PatientFacts,
        st.integers(0, 999).map("P{}".format),
        st.sampled_from(["CS", "DU", "HT"]),
        st.floats(0, 0.2),
    ),
    unique_by=lambda facts: facts.patient_id,
    min_size=8,
    max_size=60,
)
shares = st.one_of(
    st.integers(2, 8).map(lambda folds: {f"fold-{fold}": 1 / folds for fold in range(folds)}),
    st.tuples(st.integers(1, 20), st.integers(0, 20), st.integers(0, 20)).map(
        lambda weights: dict(zip(("train", "val", "test"), (w / sum(weights) for w in weights), strict=True))
    ),
)


def require_shares(assigned: dict[str, str], wanted: dict[str, float]) -> None:
    """Every part within one patient of its share, but that no part is empty."""
    counts = Counter(assigned.values())
    small = sum(0 < share * len(assigned) < 1 for share in wanted.values())
    for part, share in wanted.items():
        assert bool(counts[part]) == (share > 0)
        assert abs(counts[part] - share * len(assigned)) < 1 + small + 1e-9


@settings(max_examples=200, deadline=None)
@given(patients, shares, st.integers(0, 5))
def test_complete_balanced_and_deterministic(
    facts: list[PatientFacts], wanted: dict[str, float], seed: int
) -> None:
    assigned = assign(facts, wanted, seed)
    assert set(assigned) == {one.patient_id for one in facts}
    require_shares(assigned, wanted)
    assert assign(facts[::-1], wanted, seed) == assigned


@settings(max_examples=200, deadline=None)
@given(patients, shares, st.integers(0, 5), st.data())
def test_adding_patients_never_moves_one(
    facts: list[PatientFacts], wanted: dict[str, float], seed: int, data: st.DataObject
) -> None:
    first = facts[: data.draw(st.integers(8, len(facts)))]
    earlier = assign(first, wanted, seed)
    later = assign(facts, wanted, seed, earlier)
    assert {patient: later[patient] for patient in earlier} == earlier
    require_shares(later, wanted)


@settings(max_examples=200, deadline=None)
@given(patients, st.data())
def test_patients_who_share_pictures_are_never_parted(facts: list[PatientFacts], data: st.DataObject) -> None:
    ids = [one.patient_id for one in facts]
    pictures = data.draw(st.lists(st.lists(st.sampled_from(ids), min_size=1, max_size=3), max_size=2))
    groups = groups_of_patients(ids, pictures)
    assigned = assign(facts, {"train": 0.5, "test": 0.5}, 0, together=groups)
    for together in pictures:
        assert len({assigned[patient] for patient in together}) == 1
    assert set(assigned) == set(ids)
    assert set(assigned.values()) == {"train", "test"}


def test_a_chain_of_shared_pictures_is_one_group_and_so_are_two_spellings() -> None:
    assert groups_of_patients(["A", "B", "C", "D", "p-1", "P_1"], [{"A", "B"}, {"C", "B"}]) == (
        ("A", "B", "C"),
        ("P_1", "p-1"),
    )


def test_a_split_that_parts_a_group_is_not_extended() -> None:
    facts = [PatientFacts(f"P{n}", "A", 0.0) for n in range(4)]
    earlier = {"P0": "train", "P1": "test", "P2": "train"}
    with pytest.raises(
        InputError, match=r"are on two sides of the split; .*found 2 patients in test and train"
    ):
        assign(facts, {"train": 0.5, "test": 0.5}, 0, earlier, [("P0", "P1")])
    grown = assign(facts, {"train": 0.5, "test": 0.5}, 0, earlier, [("P2", "P3")])
    assert grown == {**earlier, "P3": "train"}


def test_patients_without_masks_are_spread_apart_from_the_others() -> None:
    facts = [PatientFacts(f"L{n}", "A", 0.1) for n in range(20)]
    facts += [PatientFacts(f"U{n}", "A", 0.0, labelled=False) for n in range(10)]
    assigned = assign(facts, {"train": 0.7, "val": 0.1, "test": 0.2}, 0)
    for kind, expected in (("L", (14, 2, 4)), ("U", (7, 1, 2))):
        counts = Counter(part for patient, part in assigned.items() if patient[0] == kind)
        assert (counts["train"], counts["val"], counts["test"]) == expected


@pytest.mark.parametrize(("patients_in_lake", "parts"), [(2, 3), (8, 50), (0, 2)])
def test_parts_that_would_stay_empty_are_refused(patients_in_lake: int, parts: int) -> None:
    facts = [PatientFacts(f"P{n}", "A", 0.0) for n in range(patients_in_lake)]
    wanted = {f"fold-{fold}": 1 / parts for fold in range(parts)}
    with pytest.raises(ConfigError, match=f"expected at least {parts} patients") as caught:
        assign(facts, wanted, 0)
    assert f"found {patients_in_lake}" in str(caught.value)


def test_as_many_patients_as_parts_is_enough() -> None:
    facts = [PatientFacts(f"P{n}", "A", 0.0) for n in range(3)]
    assigned = assign(facts, {"train": 0.98, "val": 0.01, "test": 0.01}, 0)
    assert sorted(assigned.values()) == ["test", "train", "val"]


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
    # One accent, composed in the lake and decomposed in the list.
    assert hold_out(["Zo\u00e9"], {}, ["Zoe\u0301"]) == ({"Zo\u00e9"}, [])


def test_a_patient_on_two_sides_is_refused() -> None:
    check_disjoint([("A", "train"), ("B", "test"), ("A", "train")])
    with pytest.raises(InputError, match="A in train and test"):
        check_disjoint([("A", "train"), ("A", "test")])


def test_folds_become_parts() -> None:
    assert parts_of_fold({"A": 0, "B": 1, "C": 2}, 2) == {"A": "val", "B": "train", "C": "test"}


FOLD_OF = {f"P{number}": number % 5 for number in range(40)}


@pytest.mark.parametrize("fold", range(5))
@pytest.mark.parametrize(("share", "validating"), [(0.01, 1), (0.1, 4), (0.5, 16), (0.99, 31)])
def test_a_share_of_the_other_folds_validates(fold: int, share: float, validating: int) -> None:
    parts = parts_of_fold(FOLD_OF, fold, share)

    assert {patient for patient, part in parts.items() if part == "test"} == {
        patient for patient, of in FOLD_OF.items() if of == fold
    }
    assert Counter(parts.values())["val"] == validating
    assert Counter(parts.values())["train"] == 32 - validating


def test_other_patients_do_not_move_those_that_validate() -> None:
    more = {**FOLD_OF, **{f"Q{number}": number % 5 for number in range(10)}}
    before, after = (
        [patient for patient, part in parts_of_fold(of, 0, 0.5).items() if part == "val"]
        for of in (FOLD_OF, more)
    )

    assert len(set(before) - set(after)) <= 3


@pytest.mark.parametrize("fold", range(5))
@pytest.mark.parametrize("share", [0.05, 0.3, 0.9])
def test_those_that_stay_together_validate_or_train_together(fold: int, share: float) -> None:
    groups = [("P0", "P5", "P10"), ("P1", "P6"), ("P22", "P27", "P32", "P37")]

    parts = parts_of_fold(FOLD_OF, fold, share, groups)

    assert all(len({parts[patient] for patient in group}) == 1 for group in groups)
    assert set(parts.values()) == {"train", "val", "test"}


def test_the_hash_knows_the_assignment_only() -> None:
    assert split_hash({"A": "train", "B": "test"}) == split_hash({"B": "test", "A": "train"})
    assert split_hash({"A": "train", "B": "test"}) != split_hash({"A": "test", "B": "train"})
