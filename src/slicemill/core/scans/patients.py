"""Who a scan's patient is: by a list, by a pattern in the folder's path, else the folder itself."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Literal

from slicemill.config import PUBLIC_SCAN_PATTERN

#: What said whose scan it is.
Basis = Literal["list", "pattern", "folder"]

#: Patterns that have a name. One with a slash is matched against a folder and the folders that it lies in.
BUILT_IN_PATTERNS: Mapping[str, str] = {
    "public": PUBLIC_SCAN_PATTERN,
    "tcga": (
        r"(?P<patient_id>[Tt][Cc][Gg][Aa][_-](?P<institution>[A-Za-z0-9]{2})[_-][A-Za-z0-9]{4})"
        r"(?:[_-](?P<scan_date>\d{8}))?(?:[_-].*)?"
    ),
    "patient/study": r"(?P<patient_id>[^/]+)/[^/]+",
    "patient/study/series": r"(?P<patient_id>[^/]+)/[^/]+/[^/]+",
    "patient_date": r"(?P<patient_id>.+?)[_-](?P<scan_date>\d{4}-?\d{2}-?\d{2})(?:[_-].+)?",
    "patient_visit": (
        r"(?P<patient_id>.+?)[_-](?i:visit|session|ses|timepoint|time|tp|t|v|scan|study)[_-]?\d+(?:[_-].+)?"
    ),
}

_TCGA = re.compile(r"tcga[_-][a-z0-9]+[_-][a-z0-9]+", re.IGNORECASE)


@dataclass(frozen=True)
class Identity:
    """Whose scan a folder holds, and what said so."""

    scan_id: str
    patient_id: str
    institution: str | None
    scan_date: date | None
    basis: Basis


def normal(text: str) -> str:
    """Text in Unicode's composed form (NFC), in which ids are compared."""
    return text if text.isascii() else unicodedata.normalize("NFC", text)


def patient_key(patient_id: str) -> str:
    """What two spellings of one patient have in common: letter case, hyphens and blanks do not count.

    >>> patient_key("TCGA-CS-4941") == patient_key("tcga_cs 4941")
    True
    """
    return re.sub(r"[\s_-]+", "_", normal(patient_id).strip().casefold())


def identify(path: str, pattern: re.Pattern[str], patient_list: Mapping[str, str]) -> Identity:
    """The identity of a scan folder by its path, of which the last part is the folder's name.

    `patient_list` gives patients by scan id and goes before the pattern. A pattern without a slash is matched
    against the name. One with a slash is matched against the name, then against the name with the folder
    above it, and so on; the parts that it matched, joined by `_`, become the scan id, unless the name alone
    begins with the patient.
    """
    scan_id, match = normal(path.rpartition("/")[2]), None
    for candidate in _candidates(path, pattern):
        match = pattern.fullmatch(candidate)
        if match:
            scan_id = _scan_id(candidate, match)
            break
    groups = match.groupdict() if match else {}
    patient_id = groups.get("patient_id")
    basis: Basis = "pattern" if patient_id else "folder"
    if scan_id in patient_list:
        patient_id, basis = patient_list[scan_id], "list"
    patient_id, institution = _one_spelling(patient_id or scan_id, groups.get("institution"))
    return Identity(scan_id, patient_id, institution, _day(groups.get("scan_date")), basis)


def _candidates(path: str, pattern: re.Pattern[str]) -> Iterable[str]:
    if "/" not in pattern.pattern:
        return (normal(path.rpartition("/")[2]),)
    parts = [part for part in normal(path).split("/") if part]
    return ("/".join(parts[-depth:]) for depth in range(1, len(parts) + 1))


def _scan_id(matched: str, match: re.Match[str]) -> str:
    name = matched.rpartition("/")[2]
    patient_id = match.groupdict().get("patient_id")
    return name if patient_id and name.startswith(patient_id) else matched.replace("/", "_")


def _one_spelling(patient_id: str, institution: str | None) -> tuple[str, str | None]:
    """A patient id in NFC; an official TCGA barcode and its institution as the public set writes them."""
    composed = normal(patient_id)
    if not _TCGA.fullmatch(composed):
        return composed, institution
    return composed.upper().replace("-", "_"), institution.upper() if institution else None


def _day(text: str | None) -> date | None:
    digits = text.replace("-", "") if text else ""
    try:
        return date(int(digits[:4]), int(digits[4:6]), int(digits[6:8])) if len(digits) == 8 else None
    except ValueError:
        return None


def fitting_pattern(paths: Iterable[str]) -> tuple[str, int] | None:
    """The built-in pattern that matches most of these folders, and how many; None if none matches any."""
    names = list(paths)
    counts = {
        name: sum(identify(path, re.compile(text), {}).basis == "pattern" for path in names)
        for name, text in BUILT_IN_PATTERNS.items()
        # Any folder lies in another: that it does says nothing.
        if "/" not in name
    }
    best = max(counts, key=lambda name: counts[name])
    return (best, counts[best]) if counts[best] else None
