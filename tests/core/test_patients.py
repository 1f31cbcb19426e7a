"""Who is a patient: every way in which folders are named."""

from __future__ import annotations

import re
import unicodedata
from datetime import date

import pytest

from slicemill.core.scans.patients import (
    BUILT_IN_PATTERNS,
    fitting_pattern,
    identify,
    patient_key,
)

PUBLIC = re.compile(BUILT_IN_PATTERNS["public"])


def patient(path: str, name: str = "public") -> str:
    return identify(path, re.compile(BUILT_IN_PATTERNS[name]), {}).patient_id


@pytest.mark.parametrize(
    "folder",
    [
        "TCGA_CS_4941_19960909",
        "tcga_cs_4941_19960909",
        "TCGA-CS-4941-19960909",
        "TCGA-CS-4941_20010101",
        "TCGA-CS-4941-01A-01-TS1_20010101",
        "TCGA_CS_4941_19960909_FLAIR",
        "Tcga_CS_4941_19960909_2",
    ],
)
def test_every_spelling_of_an_official_barcode_is_one_patient(folder: str) -> None:
    identity = identify(folder, PUBLIC, {})
    assert (identity.patient_id, identity.basis) == ("TCGA_CS_4941", "pattern")
    assert (identity.institution, identity.scan_id) == ("CS", folder)


@pytest.mark.parametrize("folder", ["TCGA-CS-4941", "tcga-cs-4941-01A", "TCGA_CS_4941_post_op"])
def test_a_barcode_without_a_date_has_a_pattern_of_its_own(folder: str) -> None:
    assert patient(folder, "tcga") == "TCGA_CS_4941"
    assert identify(folder, PUBLIC, {}).basis == "folder"


@pytest.mark.parametrize(
    ("name", "folders", "expected"),
    [
        ("patient_visit", ["P001_visit1", "P001_visit2", "P001-V3", "P001_ses-04", "P001_t2_repeat"], "P001"),
        ("patient_visit", ["sub-01_ses-01", "sub-01_ses-02"], "sub-01"),
        ("patient_date", ["P7_20200101", "P7_20210101", "P7-2021-02-03", "P7_20210101_a"], "P7"),
        ("patient/study", ["P001/visit1", "site/P001/visit2"], "P001"),
        ("patient/study/series", ["P001/2020/flair", "P001/2021/t1"], "P001"),
    ],
)
def test_a_built_in_pattern_puts_one_patients_scans_together(
    name: str, folders: list[str], expected: str
) -> None:
    assert {patient(folder, name) for folder in folders} == {expected}
    assert {identify(folder, re.compile(BUILT_IN_PATTERNS[name]), {}).basis for folder in folders} == {
        "pattern"
    }


def test_scans_of_one_name_below_different_patients_have_different_ids() -> None:
    pattern = re.compile(BUILT_IN_PATTERNS["patient/study"])
    ids = [identify(path, pattern, {}).scan_id for path in ("P1/visit1", "P2/visit1", "P2/P2_visit1")]
    assert ids == ["P1_visit1", "P2_visit1", "P2_visit1"]


def test_a_folder_that_the_pattern_does_not_match_is_its_own_patient_and_says_so() -> None:
    identity = identify("raw/holiday", PUBLIC, {})
    assert (identity.patient_id, identity.basis, identity.institution) == ("holiday", "folder", None)


def test_a_list_goes_before_the_pattern() -> None:
    identity = identify("TCGA_CS_4941_19960909", PUBLIC, {"TCGA_CS_4941_19960909": "Ada"})
    assert (identity.patient_id, identity.basis, identity.institution) == ("Ada", "list", "CS")
    assert identity.scan_date == date(1996, 9, 9)


def test_an_impossible_date_is_no_date() -> None:
    identity = identify("TCGA_CS_4941_19961399", PUBLIC, {})
    assert (identity.patient_id, identity.scan_date) == ("TCGA_CS_4941", None)


def test_ids_are_compared_in_one_normal_form() -> None:
    composed, decomposed = (unicodedata.normalize(form, "Zoé_20200101") for form in ("NFC", "NFD"))
    assert composed != decomposed
    assert patient(composed, "patient_date") == patient(decomposed, "patient_date")
    assert patient(composed) == patient(decomposed)


def test_letter_case_hyphens_and_blanks_do_not_tell_patients_apart() -> None:
    keys = {patient_key(text) for text in ("P-001", "p_001", " P 001 ", "P__001")}
    assert len(keys) == 1
    assert patient_key("P001") not in keys


def test_the_pattern_that_fits_is_named() -> None:
    assert fitting_pattern(["raw/P1_visit1", "raw/P1_visit2", "raw/x"]) == ("patient_visit", 2)
    assert fitting_pattern(["raw/P1_20200101"]) == ("patient_date", 1)
    assert fitting_pattern(["raw/x", "raw/y"]) is None
