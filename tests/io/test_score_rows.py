"""Rows of scores as types, against the schemas that they are stored by."""

from __future__ import annotations

import dataclasses
import re

import pytest

from slicemill.core.evaluation.document import document
from slicemill.core.evaluation.intervals import Interval
from slicemill.core.evaluation.options import ALL_OPTIONS, CLEANINGS, PredictionOptions
from slicemill.core.evaluation.rows import ManifestEntry, ScanScore, ScoredSlice
from slicemill.core.evaluation.seen import (
    joined_patients,
    patient_hash,
    patient_hashes,
    unseen_and_seen,
    was_seen,
)
from slicemill.schemas import MANIFEST, SCORED_PATIENTS, SCORED_SLICES


def fields(row: type) -> set[str]:
    return {field.name for field in dataclasses.fields(row)}


def test_rows_have_the_columns_of_their_schemas() -> None:
    assert fields(ScanScore) | {"schema_version"} == set(SCORED_PATIENTS.names)
    assert fields(ScoredSlice) | {"scan_id", "model_id", "schema_version"} == set(SCORED_SLICES.names)
    in_manifest = (
        (fields(ScanScore) - {"manifest"}) | (fields(ManifestEntry) - {"score"}) | {"schema_version"}
    )
    assert in_manifest == set(MANIFEST.names)


def test_options_and_their_names_are_one_to_one() -> None:
    assert len(set(ALL_OPTIONS)) == len(ALL_OPTIONS) == 2 * len(CLEANINGS) == 8
    for options in ALL_OPTIONS:
        assert PredictionOptions.from_names(reversed(options.names)) == options
    with pytest.raises(ValueError, match=r"expected flips, .*, boxes, found none"):
        PredictionOptions.from_names(["flips", "none"])


def test_only_what_was_asked_overrules_the_card() -> None:
    card = PredictionOptions(flips=True, smooth_slices=True)
    assert card.overruled(None, None, None) == card
    assert card.overruled(False, None, True).names == ("smooth-slices", "largest-component")


def test_a_card_says_which_patients_its_model_has_seen() -> None:
    card = patient_hashes({"train": ["A", "A", "B"], "val": ["C\u0327"]})
    assert [len(card[part]) for part in ("train", "val")] == [2, 1]
    # One letter with a cedilla, composed and decomposed, is one patient.
    assert [was_seen(card, name) for name in ("A", "\u00c7", "D")] == [True, True, False]
    assert was_seen({}, "A") is None
    assert re.fullmatch("[0-9a-f]{16}", patient_hash("A"))


def test_a_committee_has_seen_what_any_member_has() -> None:
    first, second = (
        patient_hashes({"train": ["A"], "val": ["B"]}),
        patient_hashes({"train": ["B"], "val": []}),
    )
    assert joined_patients([first, second]) == patient_hashes({"train": ["A", "B"], "val": ["B"]})
    assert joined_patients([first, {}]) == {}


def test_rows_of_seen_patients_stand_apart() -> None:
    rows = [ScanScore("a", "a", seen=True), ScanScore("b", "b", seen=False), ScanScore("c", "c")]
    unseen, seen = unseen_and_seen(rows)
    assert ([row.scan_id for row in unseen], [row.scan_id for row in seen]) == (["b", "c"], ["a"])


def test_a_document_is_what_json_holds() -> None:
    assert document({"a": (Interval(1.0, None, None),)}) == {"a": [{"value": 1.0, "low": None, "high": None}]}
