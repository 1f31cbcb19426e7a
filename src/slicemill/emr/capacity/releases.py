"""The EMR releases that slicemill runs on, and the two forms of their labels."""

from __future__ import annotations

import re
from dataclasses import dataclass

from slicemill.errors import ConfigError


@dataclass(frozen=True)
class Release:
    """What a release brings."""

    label: str
    """Release label, as RunJobFlow takes it."""
    spark: str | None
    """Spark's version, without Amazon's suffix; None of a release that the table does not hold."""


#: Releases whose Spark line the test suite runs on: 4.0 and 3.5.
RELEASES = {
    release.label: release
    for release in (
        Release("emr-spark-8.0.0", "4.0.2"),
        Release("emr-7.13.0", "3.5.6"),
        Release("emr-7.14.0", "3.5.8"),
    )
}

DEFAULT_RELEASE = "emr-spark-8.0.0"

#: From 8 on the Spark line has a prefix of its own; up to 7 there is none.
_LABEL = re.compile(r"emr-spark-(?:[89]|\d{2,})\.\d+\.\d+|emr-[1-7]\.\d+\.\d+")


def release(label: str, *, allow_untried: bool = False) -> Release:
    """The release of this label.

    Raises ConfigError for a malformed label, and for a release whose Spark line is not tested unless that is
    allowed.
    """
    if not _LABEL.fullmatch(label):
        raise ConfigError(
            "--release is not an EMR release label", expected="emr-spark-8.N.N or emr-7.N.N", found=label
        )
    if label not in RELEASES and not allow_untried:
        raise ConfigError(
            "--release is one that slicemill was never tried on",
            expected=" or ".join(RELEASES),
            found=label,
            advice="--allow-untried takes it all the same.",
        )
    return RELEASES.get(label, Release(label, None))
