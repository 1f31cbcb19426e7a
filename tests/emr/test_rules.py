"""Each builder's rule, broken: what EMR, YARN or a barrier stage would refuse late is refused at once."""

from __future__ import annotations

import dataclasses
import subprocess
from typing import Any

import pytest
from emr_builder import ENVIRONMENT, SITE, SITE_FILE, cluster, step

from slicemill.emr.answers import ClusterState
from slicemill.emr.capacity import instances
from slicemill.emr.capacity.instances import Instance, from_description, instance, keep, known_instances
from slicemill.emr.capacity.prices import read_prices
from slicemill.emr.capacity.releases import release
from slicemill.emr.capacity.shapes import SHAPES, shape
from slicemill.emr.config import SubmitConfig
from slicemill.emr.requests.cluster import Cluster, shape_of, tags
from slicemill.emr.requests.job_settings import (
    SPARK_JOBS,
    JobName,
    check_settings,
    common_settings,
    executors,
    job_settings,
)
from slicemill.emr.requests.nightly import NIGHT
from slicemill.emr.requests.steps import Step, extra_arguments, job_arguments, requests
from slicemill.emr.site import Site, check_environment, output_key
from slicemill.emr.submission import plan_submission
from slicemill.errors import ConfigError

CPU, GPU = SHAPES["cpu"], SHAPES["gpu"]


@pytest.mark.parametrize("label", ["emr-spark-8.0.0", "emr-7.13.0", "emr-7.14.0"])
def test_releases_of_tested_spark_lines_are_known_by_their_labels(label: str) -> None:
    assert release(label).label == label


@pytest.mark.parametrize(
    ("label", "told"),
    [
        ("emr-8.0.0", "not an EMR release label"),
        ("emr-spark-7.13.0", "not an EMR release label"),
        ("8.0.0", "not an EMR release label"),
        ("emr-spark-8.1.0", "never tried"),
        ("emr-7.12.0", "never tried"),
    ],
)
def test_a_label_of_the_wrong_form_or_never_tried_is_refused(label: str, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        cluster("cpu", "ingest", release_label=label)


def test_an_untried_release_is_taken_when_that_is_allowed() -> None:
    request = cluster("cpu", "ingest", release_label="emr-spark-8.1.0", allow_untried=True).request()
    assert request["ReleaseLabel"] == "emr-spark-8.1.0"
    with pytest.raises(ConfigError, match="not an EMR release label"):
        cluster("cpu", "ingest", release_label="emr-8.1.0", allow_untried=True)


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
    assert executors("train", shape("gpu", ("g5.12xlarge",), 2)).count == 8


@pytest.mark.parametrize("job", ["ingest", "score", "train"])
@pytest.mark.parametrize("name", ["m5.xlarge", "m6i.2xlarge", "m7i.4xlarge", "r7i.8xlarge", "m7g.2xlarge"])
def test_executors_and_a_driver_fit_what_yarn_hands_out(job: Any, name: str) -> None:
    form = shape("cpu", (name,), 3)
    node = form.core_instance
    plan = executors(job, form)
    each = plan.count // 3
    assert each * (plan.memory_mib + plan.overhead_mib) + 1408 <= node.yarn_mib < node.memory_mib
    assert each * plan.cores <= node.vcpus


def test_nodes_too_small_for_a_job_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(instances, "_own", lambda: {"tiny.large": Instance("tiny.large", 4, 8 * 1024)})
    assert executors("ingest", shape("cpu", ("m5.xlarge",)))
    with pytest.raises(ConfigError, match=r"tiny\.large is too small for score"):
        executors("score", shape("cpu", ("tiny.large",)))


def test_shapes_take_only_nodes_of_their_kind() -> None:
    with pytest.raises(ConfigError, match="without GPUs"):
        shape("cpu", ("g5.2xlarge",))
    with pytest.raises(ConfigError, match="with GPUs"):
        shape("gpu", ("m5.2xlarge",))
    with pytest.raises(ConfigError, match="size of the instance type is not known"):
        shape("cpu", ("m9.huge",))
    with pytest.raises(ConfigError, match="at least 1"):
        shape("cpu", core_count=0)


def test_idle_time_is_within_emrs_bounds() -> None:
    with pytest.raises(ConfigError, match="60 to 604800"):
        dataclasses.replace(CPU, idle_seconds=59)


def test_ingest_on_gpus_and_training_beside_other_jobs_are_refused() -> None:
    with pytest.raises(ConfigError, match="only jobs that train or score use GPUs"):
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
    extra = extra_arguments(["train.epochs=40", "train.no-augment", "score.batch-size=8"], ("train", "score"))
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
        extra_arguments([text], ("train",))


def test_an_argument_of_a_job_that_is_not_submitted_is_refused() -> None:
    with pytest.raises(ConfigError, match="is for score, which is not submitted"):
        extra_arguments(["score.batch-size=8"], ("ingest",))


@pytest.mark.parametrize(
    ("job", "argument"),
    [("forget", "forget.patient=TEST_AA_0001"), ("ingest", "ingest.verify"), ("score", "score.verify")],
)
def test_a_patient_is_forgotten_and_hashes_are_compared_as_steps_too(job: JobName, argument: str) -> None:
    extra = extra_arguments([argument], (job,))[job]
    command = Step(job, job_arguments(job, SITE, CPU, "first", "first") + extra).command(SITE, CPU)
    assert command[-len(extra) :] == list(extra)


def test_a_step_that_forgets_names_a_patient() -> None:
    with pytest.raises(ConfigError, match="at least one patient id"):
        Step("forget", job_arguments("forget", SITE, CPU, "first", "first"))


def test_a_site_that_lacks_outputs_names_them() -> None:
    outputs = {output_key(name): "x" for name in Site.__dataclass_fields__}
    assert Site.from_outputs(outputs).serverless_role_arn == "x"
    del outputs["ServerlessRoleArn"]
    assert Site.from_outputs(outputs).serverless_role_arn == ""
    del outputs["KeyArn"], outputs["SubnetId"]
    with pytest.raises(ConfigError, match="no KeyArn, SubnetId"):
        Site.from_outputs(outputs)


def test_submitting_says_at_once_what_can_not_be() -> None:
    with pytest.raises(ConfigError, match="nothing to submit"):
        SubmitConfig("site", ENVIRONMENT, cluster="j-1")
    with pytest.raises(ConfigError, match="--keep is for a new cluster"):
        SubmitConfig("site", ENVIRONMENT, job=("split",), cluster="j-1", keep=True)
    with pytest.raises(ConfigError, match="--run is not a plain name"):
        SubmitConfig("site", ENVIRONMENT, run="../other")


def test_cost_adds_nodes_emrs_charge_and_volumes() -> None:
    prices = read_prices()
    primary = 0.192 + 0.048 + 150 * 0.08 / 730
    core = 0.384 + 0.096 + 150 * 0.08 / 730
    assert CPU.hourly_cost(prices) == pytest.approx(primary + 2 * core)
    assert CPU.hourly_cost(dataclasses.replace(prices, ec2={})) is None


def test_a_price_file_that_lacks_something_is_refused(tmp_path: Any) -> None:
    (tmp_path / "prices.json").write_text('{"region": "x"}')
    with pytest.raises(ConfigError, match="--prices can't be read"):
        read_prices(str(tmp_path / "prices.json"))


def test_the_shapes_own_types_have_a_price() -> None:
    prices = read_prices()
    assert all(form.hourly_cost(prices) for form in SHAPES.values())


def test_training_on_any_number_of_nodes_gets_a_batch_that_its_ranks_can_share() -> None:
    for count in (1, 3, 5, 7):
        form = shape("gpu", core_count=count)
        arguments = job_arguments("train", SITE, form, "first", "first")
        Step("train", arguments)
        assert int(arguments[arguments.index("--batch-size") + 1]) % count == 0


def test_idle_time_outlasts_the_longest_step_that_yarn_does_not_see() -> None:
    plain = [seconds for job, seconds in NIGHT.items() if job not in SPARK_JOBS]
    assert plain
    assert all(form.idle_seconds > max(plain) for form in SHAPES.values())


def test_a_fleet_has_executors_that_fit_its_smallest_type() -> None:
    form = shape("cpu", ("r7i.4xlarge", "m6i.2xlarge"), 3)
    node = form.core_instance
    assert (node.vcpus, node.memory_mib) == (8, 32 * 1024)
    assert executors("score", form) == executors("score", shape("cpu", ("m6i.2xlarge",), 3))


def test_spot_nodes_are_for_work_that_can_lose_a_node() -> None:
    with pytest.raises(ConfigError, match="--spot-count is for the cpu shape"):
        shape("gpu", spot_count=2)
    with pytest.raises(ConfigError, match="ends every rank"):
        Cluster("test", SITE, shape("cpu", spot_count=1), ENVIRONMENT, (step("train"),))
    assert executors("score", shape("cpu", core_count=2, spot_count=3)).count == 5 * 2


def test_nodes_of_two_architectures_or_an_archive_of_the_other_are_refused() -> None:
    with pytest.raises(ConfigError, match="one architecture"):
        shape("cpu", ("m7g.2xlarge", "m7i.2xlarge"))
    archive = SITE.code("environments", f"slicemill-0.1.0-cpu-arm64-{'0' * 64}.tar.gz")
    with pytest.raises(ConfigError, match="built for other processors"):
        Cluster("test", SITE, CPU, archive, (step("ingest"),))
    assert Cluster("test", SITE, shape("cpu", ("m7g.2xlarge",)), archive, (step("ingest"),)).request()


def test_only_a_fleet_chooses_among_subnets() -> None:
    subnets = ("subnet-1", "subnet-2")
    with pytest.raises(ConfigError, match="only a fleet chooses"):
        Cluster("test", SITE, CPU, ENVIRONMENT, (step("ingest"),), subnets=subnets)
    fleet = shape("cpu", ("m5.2xlarge", "m6i.2xlarge"))
    request = Cluster("test", SITE, fleet, ENVIRONMENT, (step("ingest"),), subnets=subnets).request()
    assert request["Instances"]["Ec2SubnetIds"] == list(subnets)


@pytest.fixture
def own_table(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> Any:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "slicemill" / "instances.json"


def test_what_ec2_says_of_a_type_is_kept_and_used(own_table: Any) -> None:
    description = {
        "InstanceType": "x9.large",
        "ProcessorInfo": {"SupportedArchitectures": ["x86_64"]},
        "VCpuInfo": {"DefaultVCpus": 16},
        "MemoryInfo": {"SizeInMiB": 65536},
        "GpuInfo": {"Gpus": [{"Count": 2}]},
    }
    size = from_description(description)
    with pytest.raises(ConfigError, match=r"slicemill emr instances --type x9\.large"):
        instance("x9.large")
    keep({size.name: size})
    assert instance("x9.large") == Instance("x9.large", 16, 65536, 2, "x86_64")
    keep({"y9.large": Instance("y9.large", 4, 8192)})
    assert {"x9.large", "y9.large", "m5.xlarge"} <= known_instances().keys()


def test_a_broken_table_of_types_is_named(own_table: Any) -> None:
    own_table.parent.mkdir()
    own_table.write_text("[")
    with pytest.raises(ConfigError, match="not a table of instance types"):
        instance("m5.xlarge")


def test_a_cluster_tells_its_nodes_by_its_tags() -> None:
    form = shape("cpu", ("m6i.2xlarge", "m7i.2xlarge"), 3, 2)
    assert shape_of({tag["Key"]: tag["Value"] for tag in tags(form)}) == form
    assert shape_of({"project": "slicemill"}) is None


def submit(**more: Any) -> SubmitConfig:
    return SubmitConfig(SITE_FILE, ENVIRONMENT, **({"job": ("ingest",)} | more))


def described(form: Any, profile: str, state: str = "WAITING") -> ClusterState:
    attributes = {"IamInstanceProfile": f"arn:aws:iam::1:instance-profile/{profile}"}
    answer = {
        "Id": "j-1",
        "Status": {"State": state},
        "Tags": tags(form),
        "Ec2InstanceAttributes": attributes,
    }
    return ClusterState.of(answer)


def test_steps_for_a_running_cluster_fit_its_own_nodes() -> None:
    form = shape("cpu", ("m6i.4xlarge",), 3)
    plan = plan_submission(submit(cluster="j-1"), described(form, SITE.pipeline_profile))
    (sent,) = plan.arguments["Steps"]
    instances_of = f"spark.executor.instances={executors('ingest', form).count}"
    assert instances_of in sent["HadoopJarStep"]["Args"]


def test_a_training_on_a_pipeline_cluster_is_refused_before_it_is_sent() -> None:
    with pytest.raises(ConfigError, match=r"role of j-1 may not do what train does"):
        plan_submission(submit(job=("train",), cluster="j-1"), described(CPU, SITE.pipeline_profile))
    assert plan_submission(submit(job=("train",), cluster="j-1"), described(CPU, SITE.training_profile))


def test_a_cluster_that_has_ended_takes_no_steps() -> None:
    with pytest.raises(ConfigError, match="takes no more steps"):
        plan_submission(submit(cluster="j-1"), described(CPU, SITE.pipeline_profile, "TERMINATED"))


def test_an_archive_of_a_foreign_bucket_or_for_other_nodes_is_refused() -> None:
    foreign = f"s3://elsewhere/slicemill-0.1.0-cpu-{'0' * 64}.tar.gz"
    with pytest.raises(ConfigError, match="may not read this bucket"):
        plan_submission(dataclasses.replace(submit(), environment=foreign))
    with pytest.raises(ConfigError, match="the cpu archive on --shape gpu"):
        plan_submission(submit(job=("train",), shape="gpu"))


@pytest.mark.parametrize("mode", ["client", "cluster"])
def test_the_primary_file_of_a_step_is_a_plain_path(mode: Any) -> None:
    command = step("ingest", deploy_mode=mode).command(SITE, CPU)
    assert "/opt/slicemill/jobs/ingest.py" in command
    assert not [word for word in command if word.startswith("local:")]


def test_an_archives_step_brings_what_our_clusters_have_in_their_defaults() -> None:
    command = step("train", "gpu", deploy_mode="cluster", archive=ENVIRONMENT).command(SITE, GPU)
    settings = dict(command[at + 1].split("=", 1) for at, word in enumerate(command) if word == "--conf")
    assert common_settings(SITE.region).items() <= settings.items()
    discovery = settings["spark.executor.resource.gpu.discoveryScript"]
    assert discovery == "./environment/bin/discover_gpus.sh"


@pytest.mark.parametrize(("code", "seen"), [(0, 0), (1, 1), (2, 2), (3, 0)])
def test_a_step_whose_data_fell_short_goes_on(code: int, seen: int) -> None:
    command = step("score", short_is_done=True).command(SITE, CPU)
    wrapper = command[: command.index("spark-submit")]
    assert subprocess.run([*wrapper, "bash", "-c", f"exit {code}"], check=False).returncode == seen


def test_in_cluster_mode_no_step_can_tell_a_shortfall_from_a_failure() -> None:
    with pytest.raises(ConfigError, match="exit code 3 does not reach the step"):
        step("score", short_is_done=True, deploy_mode="cluster")


def test_a_search_trains_one_model_an_executor() -> None:
    arguments = job_arguments("sweep", SITE, GPU, "first", "five")
    Step("sweep", (*arguments, "--trials", "20"))
    assert arguments[arguments.index("--parallel") + 1] == str(executors("sweep", GPU).count)
    with pytest.raises(ConfigError, match="a study needs an end"):
        Step("sweep", arguments)


@pytest.mark.parametrize("job", ["crossval", "sweep"])
def test_models_that_train_side_by_side_start_together_like_ranks(job: Any) -> None:
    with pytest.raises(ConfigError, match="dynamicAllocation"):
        check_settings(job, {})
    assert job_settings(job, CPU)["spark.task.maxFailures"] == "1"
