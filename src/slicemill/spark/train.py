"""Start the ranks of a training run as Spark's barrier tasks, and say in one line why one failed."""

from __future__ import annotations

import json
import logging
import os
import re
from typing import Any

from py4j.protocol import Py4JJavaError  # type: ignore[import-untyped]  # "missing library stubs"
from pyspark.errors import PySparkException
from pyspark.ml.torch.distributor import TorchDistributor
from pyspark.sql import SparkSession

from slicemill import errors
from slicemill.core.plan import TrainPlan
from slicemill.errors import MachineError, SlicemillError, TrainingError
from slicemill.io import run_files, storage
from slicemill.spark.session import cores

log = logging.getLogger(__name__)

#: Last lines of a dead rank's output that its error quotes.
_LAST_LINES = 3


def launch(spark: SparkSession, plan: TrainPlan) -> dict[str, Any]:
    """Run `plan` on its ranks and return the summary of rank 0.

    Raises MachineError if the session can't hold the ranks, a rank's own error if it left one, and
    TrainingError with its last lines if it died without.
    """
    use_gpu = check_session(spark, plan)
    run = plan.settings["out"]
    for rank in range(plan.ranks):
        storage.remove(run_files.failure(run, rank))
    distributor = TorchDistributor(num_processes=plan.ranks, local_mode=False, use_gpu=use_gpu)
    try:
        answer = distributor.run(_rank, plan.to_json())
    except (PySparkException, Py4JJavaError, RuntimeError) as error:
        raise_failure(plan, str(error))
        raise dead_rank(plan, str(error)) from None
    raise_failure(plan, "")
    summary: dict[str, Any] = json.loads(str(answer))
    return summary


def _rank(plan_json: str) -> str:
    # Imported here: the driver and Spark's own workers, which only pass this on, do without torch.
    from slicemill.model.train import train

    return train(plan_json)


def threads_per_rank(spark: SparkSession, ranks: int) -> int:
    """CPU threads that each rank may use: the machine's share locally, the task's cores on a cluster."""
    if _is_local(spark):
        return max(1, len(os.sched_getaffinity(0)) // ranks)
    return max(1, int(spark.conf.get("spark.task.cpus", "1") or 1))


def _is_local(spark: SparkSession) -> bool:
    return str(spark.sparkContext.master).startswith("local")


def check_session(spark: SparkSession, plan: TrainPlan) -> bool:
    """Whether the ranks get GPUs from Spark; raise MachineError if the session can't hold them."""
    conf = spark.sparkContext.getConf()
    if cores(spark) < plan.ranks:
        raise MachineError(
            "the session can't run all ranks at once",
            expected=f"{plan.ranks} task slots",
            found=cores(spark),
            advice="Lower --num-processes, or ask for more executor cores.",
        )
    for key, why in _FORBIDDEN.items():
        if (conf.get(key) or "false").lower() == "true":
            raise MachineError(f"{key} is on, and {why}", expected="false", found="true")
    amount = conf.get("spark.task.resource.gpu.amount")
    if plan.settings["device"] == "cpu" or amount is None or _is_local(spark):
        return False
    if float(amount) != 1:
        raise MachineError(
            "a rank takes one whole GPU", expected="spark.task.resource.gpu.amount=1", found=amount
        )
    return True


_FORBIDDEN = {
    "spark.dynamicAllocation.enabled": "ranks must all start at once",
    "spark.ssl.enabled": "ranks talk to each other unencrypted",
}


def raise_failure(plan: TrainPlan, output: str) -> None:
    """Raise what a rank left as its reason to stop, if any did.

    A rank that loses its neighbour fails as well, with an error of the network's: one that slicemill
    understood comes first, and a death that only shows in `output` before the complaints about it.
    """
    reasons = []
    for rank in range(plan.ranks):
        uri = run_files.failure(plan.settings["out"], rank)
        if storage.exists(uri):
            reasons.append(storage.read_json(uri))
    for reason in reasons:
        kind = getattr(errors, reason["kind"], None)
        if isinstance(kind, type) and issubclass(kind, SlicemillError):
            raise kind(
                reason["what"], expected=reason["expected"], found=reason["found"], advice=reason["advice"]
            )
    if reasons and len(reasons) == plan.ranks:
        first = reasons[0]
        raise TrainingError(
            f"rank {first['rank']} failed", found=f"{first['kind']}: {first['message'].splitlines()[0]}"
        )
    if reasons and not output:
        raise TrainingError("a rank lost its neighbours", found=reasons[0]["message"].splitlines()[0])


def dead_rank(plan: TrainPlan, output: str) -> TrainingError:
    """The error for ranks that ended without leaving a reason, from what Spark kept of their output."""
    silent = [
        rank
        for rank in range(plan.ranks)
        if not storage.exists(run_files.failure(plan.settings["out"], rank))
    ]
    killed = re.search(r"Signal \d+ \(\w+\)|exitcode\s*:\s*-?\d+", output)
    lines = [line.strip() for line in output.partition("included below:")[2].splitlines() if line.strip()]
    said = " | ".join(lines[:_LAST_LINES]) or output.strip().splitlines()[0]
    return TrainingError(
        f"rank {', '.join(map(str, silent)) or '0'} died",
        expected="a finished run",
        found=f"{killed.group(0)}; its last lines: {said}" if killed else said,
        advice="Go on from the last checkpoint with --resume.",
    )
