"""PySpark's daemon for the tests' session, with imports that would take each of its workers seconds."""

from __future__ import annotations

import pandas  # noqa: F401
from pyspark.daemon import manager

import slicemill.model.predicting.worker
import slicemill.spark.score  # noqa: F401

if __name__ == "__main__":
    manager()
