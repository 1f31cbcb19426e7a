from __future__ import annotations

import dataclasses
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from lake_builder import tiny_scan, write_lake
from pyspark.sql import SparkSession

from slicemill.config import TrainConfig
from slicemill.core.training.plan import LabelledFile, TrainPlan
from slicemill.core.training.records import RankFailure
from slicemill.errors import ConfigError, MachineError, TrainingError
from slicemill.experiments.training import make_plan, scans_by_part
from slicemill.io import storage
from slicemill.io.places import Run
from slicemill.io.run.card import load_card
from slicemill.io.storage.uri import canonical
from slicemill.pipelines import train
from slicemill.spark.train import (
    check_session,
    failure,
    launch,
    threads_per_rank,
    visible_gpus,
)


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> str:
    home = canonical(str(tmp_path_factory.mktemp("train") / "lake"))
    parts = {"Pa": "train", "Pb": "train", "Pc": "train", "Pd": "val"}
    write_lake(
        home, [tiny_scan("a", 9), tiny_scan("b", 6), tiny_scan("c", 4), tiny_scan("d", 3)], {"demo": parts}
    )
    return home


def _config(lake: str, out: Path) -> TrainConfig:
    return TrainConfig(
        lake=lake,
        split="demo",
        out=canonical(str(out)),
        model="tiny_network:unhurried_network",
        epochs=6,
        image_size=32,
        batch_size=4,
        num_processes=2,
        device="cpu",
        figures=False,
    )


@pytest.fixture
def config(lake: str, tmp_path: Path) -> TrainConfig:
    return _config(lake, tmp_path / "run")


@pytest.fixture(scope="module")
def whole_run(
    lake: str, spark: SparkSession, tmp_path_factory: pytest.TempPathFactory
) -> tuple[TrainConfig, dict[str, Any]]:
    """A run on two ranks, and its summary."""
    config = _config(lake, tmp_path_factory.mktemp("undisturbed") / "run")
    return config, train.run(config, spark)


def _plan(config: TrainConfig) -> TrainPlan:
    return make_plan(config, scans_by_part(config), threads=1)


@contextmanager
def _in_the_background(action: Callable[[], None]) -> Iterator[None]:
    thread = threading.Thread(target=action, daemon=True)
    thread.start()
    yield
    thread.join(timeout=5)


def test_two_ranks_train_and_the_summary_is_that_of_the_run(
    whole_run: tuple[TrainConfig, dict[str, Any]],
) -> None:
    config, summary = whole_run

    lines = storage.read_bytes(Run(config.out).metrics).splitlines()
    card = load_card(config.out)
    assert len(lines) == summary["epochs"] == 6
    assert (summary["job"], summary["status"]) == ("train", "done")
    assert (summary["train_patients"], summary["val_patients"]) == (3, 1)
    assert summary["train_slices"] == 19
    assert summary["model_id"] == card.model_id
    assert summary["best_val_dice"] == card.metrics["val_dice"]
    assert summary["slices_per_second"] > 0


def test_a_rank_that_stops_with_a_reason_ends_the_run_with_it(
    spark: SparkSession, config: TrainConfig
) -> None:
    plan = _plan(config)
    first, second = plan.train
    wrong = (LabelledFile(second[0].scan_id, second[0].uri + ".gone", second[0].labelled_slices), *second[1:])

    with pytest.raises(
        Exception, match=r"parquet\.gone is missing from the lake; .*Run ingest again\."
    ) as caught:
        launch(spark, dataclasses.replace(plan, train=(first, wrong)))

    assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_a_killed_rank_ends_the_run_and_resuming_gives_the_undisturbed_weights(
    spark: SparkSession, config: TrainConfig, whole_run: tuple[TrainConfig, dict[str, Any]]
) -> None:
    def kill() -> None:
        while not storage.exists(Run(config.out).last_checkpoint):
            time.sleep(0.05)
        time.sleep(0.2)
        for child in _ranks_of_this_process(1):
            os.kill(child, signal.SIGKILL)

    started = time.monotonic()
    with _in_the_background(kill), pytest.raises(TrainingError, match=r"rank 1 died.*--resume"):
        train.run(config, spark)
    # Not a matter of speed: a rank that waits for a dead neighbour would do so for ten minutes.
    assert time.monotonic() - started < 300
    done = len(storage.read_bytes(Run(config.out).metrics).splitlines())
    assert 1 <= done < 6

    train.run(dataclasses.replace(config, resume=True), spark)

    assert load_card(config.out).model_id == whole_run[1]["model_id"]


def _ranks_of_this_process(rank: int) -> list[int]:
    """Ids of torchrun's children of that rank among the descendants of this process."""
    parents: dict[int, int] = {}
    ranks: dict[int, bytes] = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            ranks[int(entry.name)] = (entry / "environ").read_bytes()
        except OSError:
            continue

    def descends(process: int) -> bool:
        while process not in (0, os.getpid()):
            process = parents.get(process, 0)
        return process == os.getpid()

    marks = (b"LOCAL_RANK=0", f"RANK={rank}".encode())
    return [
        process
        for process, found in ranks.items()
        if all(mark in found.split(b"\0") for mark in marks) and descends(process)
    ]


def test_too_few_slots_are_named_before_anything_starts(spark: SparkSession, config: TrainConfig) -> None:
    plan = _plan(dataclasses.replace(config, num_processes=3, batch_size=3))

    with pytest.raises(MachineError, match=r"expected 3 task slots; found 2\..*--num-processes"):
        check_session(spark, plan)


class _Context:
    """A session's context with other settings; it runs nothing."""

    defaultParallelism = 8  # noqa: N815

    def __init__(self, master: str, settings: dict[str, str]) -> None:
        self.master = master
        self._settings = settings

    def getConf(self) -> dict[str, str]:  # noqa: N802
        return self._settings


class _Session:
    def __init__(self, master: str = "yarn", **settings: str) -> None:
        self.conf = {f"spark.{key}": value for key, value in settings.items()}
        self.sparkContext = _Context(master, self.conf)


@pytest.mark.parametrize("key", ["dynamicAllocation.enabled", "ssl.enabled"])
def test_settings_that_stop_ranks_are_named(config: TrainConfig, key: str) -> None:
    with pytest.raises(MachineError, match=rf"spark\.{key} is on"):
        check_session(_Session(**{key: "true"}), _plan(config))


def test_ranks_take_whole_gpus_where_spark_hands_them_out(config: TrainConfig) -> None:
    plan = _plan(dataclasses.replace(config, device="auto"))

    assert check_session(_Session(**{"task.resource.gpu.amount": "1"}), plan) is True
    assert check_session(_Session(), plan) is False
    assert check_session(_Session(**{"task.resource.gpu.amount": "1"}), _plan(config)) is False
    with pytest.raises(MachineError, match=r"one whole GPU.*found 0\.5"):
        check_session(_Session(**{"task.resource.gpu.amount": "0.5"}), plan)


def test_on_one_machine_ranks_see_the_drivers_gpus(
    config: TrainConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    auto, cpu = _plan(dataclasses.replace(config, device="auto")), _plan(config)

    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert visible_gpus(_Session("local[2]"), auto) == ""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,3")
    assert visible_gpus(_Session("local[2]"), auto) == "2,3"
    assert visible_gpus(_Session("local[2]"), cpu) is None
    assert visible_gpus(_Session("yarn"), auto) is None


def test_threads_are_the_tasks_on_a_cluster_and_shared_on_one_machine() -> None:
    cores = len(os.sched_getaffinity(0))

    assert threads_per_rank(_Session(**{"task.cpus": "4"}), 2) == 4
    assert threads_per_rank(_Session("local[2]"), 1) == cores
    assert threads_per_rank(_Session("local[2]"), 2 * cores) == 1


def _reason(kind: str, message: str, rank: int = 0) -> RankFailure:
    return RankFailure(kind, message, rank, problem=message, found="x")


def test_the_reason_that_slicemill_understood_comes_before_the_neighbours_complaint(
    config: TrainConfig,
) -> None:
    reasons = {
        0: _reason("RuntimeError", "Connection closed by peer"),
        1: _reason("ConfigError", "--this is wrong"),
    }

    error = failure(_plan(config), reasons, "")

    assert isinstance(error, ConfigError)
    assert str(error) == "--this is wrong; found x."


def test_a_death_without_a_reason_comes_before_the_neighbours_complaint(config: TrainConfig) -> None:
    output = (
        "RuntimeError: Command failed. The task output is included below: epoch 1/2\n\n"
        "Signal 9 (SIGKILL) received\n"
    )

    error = failure(_plan(config), {0: _reason("RuntimeError", "Connection closed by peer")}, output)

    assert str(error) == (
        "rank 1 died; expected a finished run; found Signal 9 (SIGKILL); its last lines: epoch 1/2 | "
        "Signal 9 (SIGKILL) received. Go on from the last checkpoint with --resume."
    )


def test_a_rank_that_spark_ended_after_its_neighbours_death_is_not_named(config: TrainConfig) -> None:
    output = "Most recent failure reason: Stage failed because barrier task ResultTask(47, 1) finished."

    assert str(failure(_plan(config), {}, output)).startswith("rank 1 died; ")
    # A rank that told its reason was no silent death, whichever task Spark saw first.
    reasons = {1: _reason("RuntimeError", "Connection closed by peer")}
    assert str(failure(_plan(config), reasons, output)).startswith("rank 0 died; ")


def test_ranks_that_all_complain_are_quoted_in_one_line(config: TrainConfig) -> None:
    reasons = {rank: _reason("RuntimeError", f"Address {rank} in use\nand a trace") for rank in (0, 1)}

    assert str(failure(_plan(config), reasons, "")) == "rank 0 failed; found RuntimeError: Address 0 in use."


def test_a_death_that_left_nothing_is_named_all_the_same(config: TrainConfig) -> None:
    assert str(failure(_plan(config), {}, "")).startswith(
        "rank 0, 1 died; expected a finished run; found no last words."
    )
