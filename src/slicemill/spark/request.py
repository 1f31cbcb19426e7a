"""Whether Spark was asked for; importable without it."""

from __future__ import annotations

import os


def submitted() -> bool:
    """Whether spark-submit started this process, so that its JVM runs already."""
    return "PYSPARK_GATEWAY_PORT" in os.environ


def spark_requested() -> bool:
    """Whether spark-submit started this process, or SLICEMILL_MASTER names a place to work.

    If not, little work is done in this process: Spark's start would cost more than it gives.
    """
    return submitted() or "SLICEMILL_MASTER" in os.environ
