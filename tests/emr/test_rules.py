"""Each builder's rule, broken: what EMR, YARN or a barrier stage would refuse late is refused at once."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from emr_builder import ENVIRONMENT, SITE, cluster, step

from slicemill.emr.capacity.instances import INSTANCES, Instance, read_prices
from slicemill.emr.capacity.releases import release
from slicemill.emr.capacity.shapes import SHAPES, shape
from slicemill.emr.config import SubmitConfig
from slicemill.emr.requests.job_settings import check_settings, executors, job_settings
from slicemill.emr.requests.steps import Step, extra_arguments, requests
from slicemill.emr.site import Site, check_environment, output_key
from slicemill.errors import ConfigError

CPU, GPU = SHAPES["cpu"], SHAPES["gpu"]


@pytest.mark.parametrize("label", ["emr-spark-8.0.0", "emr-7.13.0"])
def test_both_releases_are_known_by_their_labels(label: str) -> None:
    assert release(label).label == label


@pytest.mark.parametrize(
    ("label", "told"),
    [
        ("emr-8.0.0", "no EMR release label"),
        ("emr-spark-7.13.0", "no EMR release label"),
        ("8.0.0", "no EMR release label"),
        ("emr-spark-8.1.0", "never tried"),
        ("emr-7.12.0", "never tried"),
    ],
)
def test_a_label_of_the_wrong_form_or_never_tried_is_refused(label: str, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        cluster("cpu", "ingest", release_label=label)


def test_a_step_longer_than_emr_takes_is_refused() -> None:
    fitting = step("ingest", settings={"spark.x": "x" * 8_000})
    assert fitting.request(SITE, CPU, "CONTINUE")
    too_long = dataclasses.replace(fitting, settings={"spark.x": "x" * 10_240})
    with pytest.raises(ConfigError, match="10240 characters"):
        too_long.request(SITE, CPU, "CONTINUE")


def test_the_length_of_a_step_counts_every_string() -> None:
    base = step("split").request(SITE, CPU, "CONTINUE")["HadoopJarStep"]
    used = len(base["Jar"]) + sum(map(len, base["Args"]))
    name = "n" * (10_240 - used + len("first"))
    exact = Step("split", ("--lake", SITE.data("lake"), "--name", name))
    assert exact.request(SITE, CPU, "CONTINUE")
    with pytest.raises(ConfigError, match="found 10241"):
        Step("split", ("--lake", SITE.data("lake"), "--name", f"{name}n")).request(SITE, CPU, "CONTINUE")


def test_a_cluster_takes_256_steps_and_no_more() -> None:
    assert len(requests([step("split")] * 256, SITE, CPU, "CONTINUE")) == 256
    with pytest.raises(ConfigError, match="at most 256 a cluster"):
        requests([step("split")] * 257, SITE, CPU, "CONTINUE")


@pytest.mark.parametrize("action", ["TERMINATE_CLUSTER", "CANCEL_AND_WAIT"])
def test_steps_side_by_side_can_not_stop_each_other(action: Any) -> None:
    assert requests([step("split")], SITE, CPU, action, 1)
    with pytest.raises(ConfigError, match="side by side"):
        requests([step("split")], SITE, CPU, action, 2)


def test_a_cluster_of_concurrent_steps_goes_on_after_a_failure() -> None:
    request = cluster("cpu", "ingest", "split", long_lived=True, step_concurrency=2).request()
    assert {one["ActionOnFailure"] for one in request["Steps"]} == {"CONTINUE"}


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({}, "dynamicAllocation"),
        ({"spark.dynamicAllocation.enabled": "true"}, "dynamicAllocation"),
        (
            {"spark.dynamicAllocation.enabled": "false", "spark.task.resource.gpu.amount": "0.5"},
            "one whole GPU",
        ),
        (
            {"spark.dynamicAllocation.enabled": "false", "spark.executor.resource.gpu.amount": "2"},
            "one whole GPU",
        ),
        ({"spark.dynamicAllocation.enabled": "false", "spark.ssl.enabled": "true"}, "unencrypted"),
    ],
)
def test_settings_that_a_training_would_hang_or_die_on_are_refused(
    settings: dict[str, str], told: str
) -> None:
    with pytest.raises(ConfigError, match=told):
        check_settings("train", settings)
    check_settings("ingest", settings)


def test_a_training_step_can_not_turn_dynamic_allocation_on() -> None:
    with pytest.raises(ConfigError, match="ranks must all start at once"):
        step("train", "gpu", settings={"spark.dynamicAllocation.enabled": "true"}).command(SITE, GPU)


def test_a_training_gets_one_executor_one_task_and_one_gpu_a_rank() -> None:
    plan = executors("train", shape("gpu", core_count=3))
    assert (plan.count, plan.slots, plan.gpus) == (3, 3, 1)
    settings = job_settings("train", GPU)
    assert settings["spark.task.resource.gpu.amount"] == settings["spark.executor.resource.gpu.amount"] == "1"
    assert settings["spark.executor.cores"] == settings["spark.task.cpus"]
    command = step("train", "gpu").command(SITE, GPU)
    assert command[command.index("--num-processes") + 1] == settings["spark.executor.instances"]


def test_a_node_of_four_gpus_holds_four_ranks() -> None:
    assert executors("train", shape("gpu", "g5.12xlarge", 2)).count == 8


@pytest.mark.parametrize("job", ["ingest", "score", "train"])
@pytest.mark.parametrize("name", [name for name, one in INSTANCES.items() if not one.gpus])
def test_executors_and_a_driver_fit_what_yarn_hands_out(job: Any, name: str) -> None:
    form = shape("cpu", name, 3)
    node = form.core_instance
    plan = executors(job, form)
    each = plan.count // 3
    assert each * (plan.memory_mib + plan.overhead_mib) + 1408 <= node.yarn_mib < node.memory_gib * 1024
    assert each * plan.cores <= node.vcpus


def test_nodes_too_small_for_a_job_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(INSTANCES, "tiny.large", Instance("tiny.large", 4, 8))
    assert executors("ingest", shape("cpu", "m5.xlarge"))
    with pytest.raises(ConfigError, match=r"tiny\.large is too small for score"):
        executors("score", shape("cpu", "tiny.large"))


def test_shapes_take_only_nodes_of_their_kind() -> None:
    with pytest.raises(ConfigError, match="without GPUs"):
        shape("cpu", "g5.2xlarge")
    with pytest.raises(ConfigError, match="with GPUs"):
        shape("gpu", "m5.2xlarge")
    with pytest.raises(ConfigError, match="instance type is unknown"):
        shape("cpu", "m9.huge")
    with pytest.raises(ConfigError, match="at least 1"):
        shape("cpu", core_count=0)


def test_idle_time_is_within_emrs_bounds() -> None:
    with pytest.raises(ConfigError, match="60 to 604800"):
        dataclasses.replace(CPU, idle_seconds=59)


def test_ingest_on_gpus_and_training_beside_other_jobs_are_refused() -> None:
    with pytest.raises(ConfigError, match="only train and score use GPUs"):
        cluster("gpu", "split")
    with pytest.raises(ConfigError, match="GPUs that idle"):
        executors("ingest", GPU)
    with pytest.raises(ConfigError, match="cluster of its own"):
        cluster("cpu", "ingest", "train")


def test_a_cluster_without_steps_must_be_kept() -> None:
    with pytest.raises(ConfigError, match="end at once"):
        cluster("cpu")
    assert cluster("cpu", long_lived=True).request()["Instances"]["KeepJobFlowAliveWhenNoSteps"] is True


def test_an_archive_is_for_spark_jobs_in_cluster_mode() -> None:
    with pytest.raises(ConfigError, match="in client mode the driver is in none"):
        step("score", archive=ENVIRONMENT)
    with pytest.raises(ConfigError, match="opens no Spark session"):
        step("report", deploy_mode="cluster", archive=ENVIRONMENT)
    command = step("score", deploy_mode="cluster", archive=ENVIRONMENT).command(SITE, CPU)
    assert f"{ENVIRONMENT}#environment" in command
    assert "spark.yarn.appMasterEnv.PYSPARK_PYTHON=./environment/bin/python" in command


@pytest.mark.parametrize(
    "uri",
    ["s3://code/env.tar.gz", f"/tmp/env-{'0' * 64}.tar.gz", f"s3://code/env-{'0' * 63}.tar.gz", "latest"],
)
def test_an_environment_without_its_hash_is_refused(uri: str) -> None:
    with pytest.raises(ConfigError, match="SHA-256"):
        check_environment(uri)


def test_arguments_of_a_job_are_read_as_the_job_reads_them() -> None:
    extra = extra_arguments(["train.epochs=40", "train.no-augment", "score.batch-size=8"])
    assert extra["train"] == ("--epochs", "40", "--no-augment")
    assert extra["score"] == ("--batch-size", "8")
    base = step("train", "gpu").arguments
    Step("train", base + extra["train"])
    with pytest.raises(ConfigError, match="train does not take"):
        Step("train", (*base, "--epoch", "40"))
    with pytest.raises(ConfigError, match="--batch-size is out of range"):
        Step("train", (*base, "--batch-size", "15"))


@pytest.mark.parametrize("text", ["epochs=4", "trian.epochs=4", "train", "train.=4"])
def test_an_argument_of_no_job_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=r"JOB\.FLAG=VALUE"):
        extra_arguments([text])


def test_a_site_that_lacks_outputs_names_them() -> None:
    outputs = {output_key(name): "x" for name in Site.__dataclass_fields__}
    del outputs["KeyArn"], outputs["SubnetId"]
    with pytest.raises(ConfigError, match="no KeyArn, SubnetId"):
        Site.from_outputs(outputs)


def test_submitting_says_at_once_what_can_not_be() -> None:
    with pytest.raises(ConfigError, match="nothing to submit"):
        SubmitConfig("site", ENVIRONMENT, cluster="j-1")
    with pytest.raises(ConfigError, match="--keep is for a new cluster"):
        SubmitConfig("site", ENVIRONMENT, job=("split",), cluster="j-1", keep=True)
    with pytest.raises(ConfigError, match="--run is no plain name"):
        SubmitConfig("site", ENVIRONMENT, run="../other")


def test_cost_adds_nodes_emrs_charge_and_volumes() -> None:
    prices = read_prices()
    primary = 0.192 + 0.048 + 150 * 0.08 / 730
    core = 0.384 + 0.096 + 150 * 0.08 / 730
    assert CPU.hourly_cost(prices) == pytest.approx(primary + 2 * core)
    with pytest.raises(ConfigError, match=r"no m5\.xlarge"):
        CPU.hourly_cost(dataclasses.replace(prices, ec2={}))


def test_a_price_file_that_lacks_something_is_refused(tmp_path: Any) -> None:
    (tmp_path / "prices.json").write_text('{"region": "x"}')
    with pytest.raises(ConfigError, match="--prices can't be read"):
        read_prices(str(tmp_path / "prices.json"))


def test_every_node_type_has_a_price() -> None:
    prices = read_prices()
    assert all(prices.node_hour(name, 0) > 0 for name in INSTANCES)
