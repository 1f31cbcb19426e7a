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
    spark: str
    """Spark's version, without Amazon's suffix."""
    scala: str
    """Scala line of Spark's jars."""
    gpu_backend: str
    """torch build that the driver of the release's GPU nodes runs, as uv's --torch-backend names it."""


#: EMR's GPU nodes bring a CUDA 12.5 driver, which runs every CUDA 12 build and no CUDA 13 one.
RELEASES = {
    release.label: release
    for release in (
        Release("emr-spark-8.0.0", "4.0.2", "2.13", "cu126"),
        Release("emr-7.13.0", "3.5.6", "2.12", "cu126"),
    )
}

DEFAULT_RELEASE = "emr-spark-8.0.0"

#: From 8 on the Spark line has a prefix of its own; up to 7 there is none.
_LABEL = re.compile(r"emr-spark-(?:[89]|\d{2,})\.\d+\.\d+|emr-[1-7]\.\d+\.\d+")


def release(label: str) -> Release:
    """The release of this label. Raises ConfigError for a malformed label or a release never tried."""
    if not _LABEL.fullmatch(label):
        raise ConfigError(
            "--release is no EMR release label", expected="emr-spark-8.N.N or emr-7.N.N", found=label
        )
    if label not in RELEASES:
        raise ConfigError(
            "--release is one that slicemill was never tried on",
            expected=" or ".join(RELEASES),
            found=label,
            advice="Spark 4.1 and later need a pyarrow that petastorm does not work with.",
        )
    return RELEASES[label]
