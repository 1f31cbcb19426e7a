"""Steps: one job each, as `spark-submit` or as plain Python on the primary node."""

from __future__ import annotations

import contextlib
import dataclasses
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import tyro

from slicemill.config import (
    AssociateConfig,
    CommitteeConfig,
    CompareConfig,
    CrossvalConfig,
    ForgetConfig,
    IngestConfig,
    ReportConfig,
    ScoreConfig,
    SplitConfig,
    SweepConfig,
    TrainConfig,
)
from slicemill.emr.capacity.shapes import Shape
from slicemill.emr.requests.job_settings import (
    HOME,
    SPARK_JOBS,
    JobName,
    check_settings,
    common_settings,
    executors,
    job_settings,
)
from slicemill.emr.site import Site, check_environment
from slicemill.errors import ConfigError

DeployMode: TypeAlias = Literal["client", "cluster"]
ActionOnFailure: TypeAlias = Literal["TERMINATE_CLUSTER", "CANCEL_AND_WAIT", "CONTINUE"]

#: EMR's limits: characters of all strings of one step, steps of one cluster's life, steps of one request.
STEP_CHARACTERS = 10_240
CLUSTER_STEPS = 256
PYTHON = f"{HOME}/bin/python"
#: Name of the unpacked archive in a container's working folder.
ARCHIVE_NAME = "environment"

#: Runs its arguments as a command; of their exit codes 3 becomes 0.
_SHORT_IS_DONE = '"$@"; code=$?; [ "$code" = 3 ] && code=0; exit "$code"'

_CONFIGS: Mapping[JobName, type[Any]] = {
    "ingest": IngestConfig,
    "split": SplitConfig,
    "train": TrainConfig,
    "score": ScoreConfig,
    "report": ReportConfig,
    "crossval": CrossvalConfig,
    "sweep": SweepConfig,
    "committee": CommitteeConfig,
    "compare": CompareConfig,
    "associate": AssociateConfig,
    "forget": ForgetConfig,
}


@dataclass(frozen=True)
class Step:
    """One job on a cluster, with the arguments after its name."""

    job: JobName
    arguments: tuple[str, ...]
    deploy_mode: DeployMode = "client"
    archive: str | None = None
    """Environment archive that YARN unpacks for this job alone, where nodes have none at `HOME`."""
    settings: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """Spark settings over those of the job's shape."""
    template_arguments: tuple[str, ...] = ()
    """Further arguments with marks that CloudFormation fills in; they can't be checked here."""
    summary: str | None = None
    """URI to which the job writes its summary line too."""
    short_is_done: bool = False
    """Let exit code 3 (done, but the data fell short) count as success: the summary tells it apart."""

    def __post_init__(self) -> None:
        check_arguments(self.job, self.arguments)
        if self.short_is_done and self.job in SPARK_JOBS and self.deploy_mode == "cluster":
            # There spark-submit ends with 1 whatever the driver's exit code was.
            raise ConfigError(
                "in cluster mode exit code 3 does not reach the step",
                expected="--deploy-mode client for a job whose shortfall is not a failure",
                found="cluster",
            )
        if self.archive:
            check_environment(self.archive)
            if self.job not in SPARK_JOBS:
                raise ConfigError(
                    f"{self.job} opens no Spark session, so YARN would unpack no archive for it",
                    expected=f"the environment at {HOME}, or one of {', '.join(SPARK_JOBS)}",
                    found=self.archive,
                )
            if self.deploy_mode == "client":
                raise ConfigError(
                    "an archive is unpacked in containers only, and in client mode the driver is in none",
                    expected="--deploy-mode cluster",
                    found="client",
                )

    def command(self, site: Site, shape: Shape) -> list[str]:
        """The command line, as command-runner.jar takes it. Raises ConfigError."""
        command = self._plain_command(site, shape)
        return ["bash", "-c", _SHORT_IS_DONE, "slicemill", *command] if self.short_is_done else command

    def _job_arguments(self) -> tuple[str, ...]:
        place = ("--summary", self.summary) if self.summary else ()
        return (*self.arguments, *self.template_arguments, *place)

    def _plain_command(self, site: Site, shape: Shape) -> list[str]:
        if self.job not in SPARK_JOBS:
            region = f"AWS_DEFAULT_REGION={site.region}"
            return ["env", region, PYTHON, f"{HOME}/jobs/{self.job}.py", *self._job_arguments()]
        settings = self._spark_settings(site, shape)
        check_settings(self.job, {"spark.dynamicAllocation.enabled": "false"} | settings)
        # A plain path in cluster mode too: YARN localises no `local://` file, and the driver would lack it.
        script = site.code("jobs", f"{self.job}.py") if self.archive else f"{HOME}/jobs/{self.job}.py"
        return [
            "spark-submit",
            *("--master", "yarn", "--deploy-mode", self.deploy_mode),
            *(part for key, value in settings.items() for part in ("--conf", f"{key}={value}")),
            *(("--archives", f"{self.archive}#{ARCHIVE_NAME}") if self.archive else ()),
            script,
            *self._job_arguments(),
        ]

    def _spark_settings(self, site: Site, shape: Shape) -> dict[str, str]:
        if not self.archive:
            return {**job_settings(self.job, shape), **self.settings}
        home = f"./{ARCHIVE_NAME}"
        python = f"{home}/bin/python"
        return {
            # Such a cluster has none of our spark-defaults.
            **common_settings(site.region),
            **job_settings(self.job, shape, home),
            "spark.pyspark.python": python,
            "spark.yarn.appMasterEnv.PYSPARK_PYTHON": python,
            "spark.executorEnv.PYSPARK_PYTHON": python,
            **self.settings,
        }

    def request(self, site: Site, shape: Shape, action: ActionOnFailure) -> dict[str, Any]:
        """A StepConfig of RunJobFlow and AddJobFlowSteps. Raises ConfigError if it is too long."""
        jar = "command-runner.jar"
        arguments = self.command(site, shape)
        length = len(jar) + sum(map(len, arguments))
        if length > STEP_CHARACTERS:
            raise ConfigError(
                f"the step {self.job} is too long for EMR",
                expected=f"at most {STEP_CHARACTERS} characters",
                found=length,
                advice="Move settings into the cluster's spark-defaults.",
            )
        return {
            "Name": f"slicemill {self.job}",
            "ActionOnFailure": action,
            "HadoopJarStep": {"Jar": jar, "Args": arguments},
        }


def requests(
    steps: Sequence[Step], site: Site, shape: Shape, action: ActionOnFailure, concurrency: int = 1
) -> list[dict[str, Any]]:
    """StepConfigs of several steps.

    Raises ConfigError for more than a cluster takes in its life, or for an action on failure that EMR
    refuses where steps run side by side.
    """
    if len(steps) > CLUSTER_STEPS:
        raise ConfigError("too many steps", expected=f"at most {CLUSTER_STEPS} a cluster", found=len(steps))
    if not 1 <= concurrency <= CLUSTER_STEPS:
        raise ConfigError(
            "step concurrency is out of range", expected=f"1 to {CLUSTER_STEPS}", found=concurrency
        )
    if concurrency > 1 and action != "CONTINUE":
        raise ConfigError(
            "steps that run side by side can't stop each other", expected="CONTINUE", found=action
        )
    return [step.request(site, shape, action) for step in steps]


def job_arguments(job: JobName, site: Site, shape: Shape, run: str, split: str) -> tuple[str, ...]:
    """Arguments of a job on the site's own folders, for the model `run` and the split `split`.

    Scores go below the run's name, so that going back to an earlier model goes back to its scores.
    """
    lake, raw, home = site.data("lake"), site.data("raw"), site.data("runs", run)
    scores = site.data("scores", run)
    if job == "ingest":
        return ("--raw", raw, "--lake", lake)
    if job == "split":
        return ("--lake", lake, "--name", split)
    if job == "train":
        ranks = executors("train", shape).count
        device = ("--device", "cuda") if shape.has_gpus else ("--device", "cpu")
        return (
            "--lake",
            lake,
            "--split",
            split,
            "--out",
            home,
            "--num-processes",
            str(ranks),
            "--batch-size",
            str(batch_size(ranks)),
            *device,
            "--resume",
        )
    if job == "score":
        return ("--model", home, "--raw", raw, "--out", scores)
    if job in ("crossval", "sweep"):
        return _search_arguments(job, site, shape, run, split)
    if job == "committee":
        return ("--model", home, "--out", f"{home}-committee")
    if job == "associate":
        return ("--lake", lake, "--scores", scores, "--out", site.data("report", f"{run}-associations"))
    if job == "compare":
        return ("--run", f"{run}={home}", "--out", site.data("report", f"{run}-compare"))
    report = site.data("report", run)
    if job == "forget":
        return ("--lake", lake, "--run", home, "--scores", scores, "--report", report)
    return ("--lake", lake, "--run", home, "--scores", scores, "--out", report)


def _search_arguments(job: JobName, site: Site, shape: Shape, run: str, split: str) -> tuple[str, ...]:
    """Of jobs that train many models: one rank a model, as many models at a time as there are executors."""
    lake, home = site.data("lake"), site.data("runs", run)
    common = ("--lake", lake, "--split", split, "--out", home)
    device = "cuda" if shape.has_gpus else "cpu"
    space = ("--space", f"{home}-space.yaml") if job == "sweep" else ()
    return (*common, "--parallel", str(executors(job, shape).count), "--device", device, *space)


def batch_size(ranks: int) -> int:
    """Slices of a step over all ranks: training's default, rounded up to a multiple of the ranks."""
    return -(-TrainConfig.batch_size // ranks) * ranks


def extra_arguments(texts: Sequence[str], jobs: Sequence[JobName]) -> dict[JobName, tuple[str, ...]]:
    """`JOB.FLAG=VALUE`, such as train.epochs=40, as command line arguments by job; no value for a switch.

    Raises ConfigError for another form, or for a job that is not among `jobs`. Whether the job has the flag
    is `check_arguments`' business.
    """
    arguments: dict[JobName, tuple[str, ...]] = dict.fromkeys(_CONFIGS, ())
    for text in texts:
        name, equals, value = text.partition("=")
        prefix, _, flag = name.partition(".")
        job = next((job for job in _CONFIGS if job == prefix), None)
        if job is None or not flag:
            raise ConfigError(
                "--argument names no job's flag",
                expected="JOB.FLAG=VALUE, such as train.epochs=40 or train.no-augment",
                found=text,
            )
        if job not in jobs:
            raise ConfigError(
                f"--argument is for {job}, which is not submitted", expected=f"--job {job}", found=text
            )
        arguments[job] += (f"--{flag}", *((value,) if equals else ()))
    return arguments


def check_arguments(job: JobName, arguments: Sequence[str]) -> None:
    """Read a job's arguments as the job itself will. Raises ConfigError for what it would refuse."""
    messages = io.StringIO()
    try:
        with contextlib.redirect_stderr(messages):
            tyro.cli(
                _CONFIGS[job],
                args=arguments,
                config=(tyro.conf.UseAppendAction, tyro.conf.FlagCreatePairsOff),
            )
    except SystemExit as stop:
        raise ConfigError(
            f"{job} does not take these arguments",
            expected=f"what `slicemill {job} --help` lists",
            found=" ".join(arguments),
        ) from stop
