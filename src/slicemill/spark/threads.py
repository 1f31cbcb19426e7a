"""Several jobs of Spark at a time: threads of the driver that end when the driver is interrupted."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from slicemill.spark.session import Session

Item = TypeVar("Item")
Result = TypeVar("Result")


def in_threads(
    work: Callable[[Item], Result],
    items: Iterable[Item],
    threads: int,
    spark: Session,
    interrupted: threading.Event,
) -> list[Result]:
    """The results of `work`, in the order of the items.

    If the driver is interrupted, `interrupted` is set and Spark's jobs are cancelled: a thread that waits for
    one would otherwise hold the driver until all its work is done.
    """
    with ThreadPoolExecutor(threads) as pool:
        try:
            return list(pool.map(work, items))
        except KeyboardInterrupt:
            interrupted.set()
            pool.shutdown(wait=False, cancel_futures=True)
            spark.sparkContext.cancelAllJobs()
            raise
