"""Start the ranks of a training run as Spark's barrier tasks, and say in one line why one failed."""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import re
from collections.abc import Mapping
from typing import Any

from py4j.protocol import Py4JJavaError  # type: ignore[import-untyped]  # "missing library stubs"
from pyspark.errors import PySparkException
from pyspark.ml.torch.distributor import TorchDistributor
from pyspark.sql import SparkSession

from slicemill import errors
from slicemill.core.training.plan import TrainPlan
from slicemill.core.training.records import RankFailure
from slicemill.errors import MachineError, SlicemillError, TrainingError
from slicemill.io import storage
from slicemill.io.places import Run
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
    plan = dataclasses.replace(plan, gpus=visible_gpus(spark, plan))
    run = Run.of(plan)
    for uri in (run.started, *(run.failure(rank) for rank in range(plan.ranks))):
        storage.remove(uri)
    distributor = TorchDistributor(num_processes=plan.ranks, local_mode=False, use_gpu=use_gpu)
    summary: dict[str, Any] = {}
    output = ""
    try:
        summary = json.loads(str(distributor.run(_rank, plan.to_json())))
    except (PySparkException, Py4JJavaError, RuntimeError) as error:
        output = str(error)
    reasons = _reasons(plan)
    if reasons or not summary:
        raise failure(plan, reasons, output)
    return summary


def _rank(plan_json: str) -> str:
    # Imported here: the driver and Spark's own workers, which only pass this on, do without torch.
    from slicemill.model.training.rank_run import train

    return train(plan_json)


def threads_per_rank(spark: SparkSession, ranks: int) -> int:
    """CPU threads for each of all ranks at work: the machine's share locally, the task's cores on a cluster.

    More threads than cores would wait for each other at every step: two folds of two threads each took ten
    times as long on two cores.
    """
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
    if plan.settings.device == "cpu" or amount is None or _is_local(spark):
        return False
    if float(amount) != 1:
        raise MachineError(
            "a rank takes one whole GPU", expected="spark.task.resource.gpu.amount=1", found=amount
        )
    return True


def visible_gpus(spark: SparkSession, plan: TrainPlan) -> str | None:
    """The plan's `gpus`: on one machine Spark hides them all, so ranks get to see the driver's."""
    if plan.settings.device == "cpu" or not _is_local(spark):
        return None
    return os.environ.get("CUDA_VISIBLE_DEVICES", "")


_FORBIDDEN = {
    "spark.dynamicAllocation.enabled": "ranks must all start at once",
    "spark.ssl.enabled": "ranks talk to each other unencrypted",
}


def _reasons(plan: TrainPlan) -> dict[int, RankFailure]:
    uris = {rank: Run.of(plan).failure(rank) for rank in range(plan.ranks)}
    return {
        rank: RankFailure.from_json(storage.read_json(uri))
        for rank, uri in uris.items()
        if storage.exists(uri)
    }


def failure(plan: TrainPlan, reasons: Mapping[int, RankFailure], output: str) -> SlicemillError:
    """The error of a run that failed, from the reasons that ranks left and what Spark kept of their output.

    A rank that loses its neighbour fails as well, with an error of the network's. So what slicemill
    understood comes first, then a rank that died without a word, and such complaints last.
    """
    for reason in reasons.values():
        kind = getattr(errors, reason.kind, None)
        if isinstance(kind, type) and issubclass(kind, SlicemillError):
            return kind(
                reason.problem or reason.message,
                expected=reason.expected,
                found=reason.found,
                advice=reason.advice,
            )
    silent = [rank for rank in range(plan.ranks) if rank not in reasons]
    if silent:
        return _dead(_first_to_end(silent, output), output)
    rank, reason = next(iter(reasons.items()))
    return TrainingError(
        f"rank {rank} failed", found=f"{reason.kind}: {(reason.message.splitlines() or [''])[0]}"
    )


def _first_to_end(silent: list[int], output: str) -> list[int]:
    """The silent rank whose task Spark saw fail, if it says so: the others it then ended itself."""
    match = re.search(r"barrier task \w+\(\d+, (\d+)\)", output)
    return [int(match[1])] if match and int(match[1]) in silent else silent


def _dead(ranks: list[int], output: str) -> TrainingError:
    killed = re.search(r"Signal \d+ \(\w+\)|exitcode\s*:\s*-?\d+", output)
    last_output = output.partition("included below:")[2] or output
    lines = [line.strip() for line in last_output.splitlines() if line.strip()][:_LAST_LINES]
    signal = [killed.group(0)] if killed else []
    return TrainingError(
        f"rank {', '.join(map(str, ranks))} died",
        expected="a finished run",
        found="; its last lines: ".join([*signal, " | ".join(lines)]) if lines else "no last words",
        advice="Go on from the last checkpoint with --resume.",
    )
