"""The verbs of `slicemill`, the same for the command line and for the files in jobs/."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

from slicemill import __version__
from slicemill.config import (
    CommitteeConfig,
    CompareConfig,
    CrossvalConfig,
    IngestConfig,
    PhantomConfig,
    ReportConfig,
    ScoreConfig,
    SplitConfig,
    SweepConfig,
    TrainConfig,
)
from slicemill.emr.config import EmrConfig
from slicemill.runner import Summary, run_job


def _phantom(config: PhantomConfig) -> Summary:
    from slicemill.pipelines import phantom

    return phantom.run(config)


def _ingest(config: IngestConfig) -> Summary:
    from slicemill.pipelines import ingest
    from slicemill.spark.session import open_session

    with open_session("ingest") as spark:
        return ingest.run(config, spark)


def _split(config: SplitConfig) -> Summary:
    from slicemill.pipelines import split

    return split.run(config)


def _train(config: TrainConfig) -> Summary:
    from slicemill.pipelines import train
    from slicemill.spark.session import open_session

    with open_session("train", slots=config.num_processes) as spark:
        return train.run(config, spark)


def _crossval(config: CrossvalConfig) -> Summary:
    from slicemill.pipelines import crossval
    from slicemill.spark.session import open_session

    with open_session("crossval", slots=config.num_processes * config.parallel) as spark:
        return crossval.run(config, spark)


def _score(config: ScoreConfig) -> Summary:
    from slicemill.pipelines import score
    from slicemill.spark.session import open_session

    with open_session("score") as spark:
        return score.run(config, spark)


def _report(config: ReportConfig) -> Summary:
    from slicemill.pipelines import report

    return report.run(config)


def _sweep(config: SweepConfig) -> Summary:
    from slicemill.pipelines import sweep
    from slicemill.spark.session import open_session

    with open_session("sweep", slots=config.num_processes * config.parallel) as spark:
        return sweep.run(config, spark)


def _committee(config: CommitteeConfig) -> Summary:
    from slicemill.pipelines import committee

    return committee.run(config)


def _compare(config: CompareConfig) -> Summary:
    from slicemill.pipelines import compare

    return compare.run(config)


def _emr(config: EmrConfig) -> Summary:
    from slicemill.emr import verbs

    return verbs.run(config)


@dataclass(frozen=True)
class _Verb:
    config: type[Any]
    action: Callable[[Any], Summary]
    from_file: bool = False
    """Whether --config FILE may give settings."""


VERBS = {
    "phantom": _Verb(PhantomConfig, _phantom),
    "ingest": _Verb(IngestConfig, _ingest),
    "split": _Verb(SplitConfig, _split),
    "train": _Verb(TrainConfig, _train, from_file=True),
    "crossval": _Verb(CrossvalConfig, _crossval, from_file=True),
    "sweep": _Verb(SweepConfig, _sweep, from_file=True),
    "committee": _Verb(CommitteeConfig, _committee),
    "compare": _Verb(CompareConfig, _compare),
    "score": _Verb(ScoreConfig, _score),
    "report": _Verb(ReportConfig, _report),
    "emr": _Verb(EmrConfig, _emr),
}


def run_verb(name: str, argv: Sequence[str] | None = None) -> int:
    """Run one verb on its arguments (the process's own by default) and return the exit code."""
    verb = VERBS[name]
    return run_job(f"slicemill {name}", verb.config, verb.action, argv, from_file=verb.from_file)


def _usage() -> str:
    lines = [
        f"slicemill {__version__}: raw MRI slices to tumour masks and per-patient Dice",
        "",
        "slicemill <verb> --help",
        "",
    ]
    lines += [f"  {name:9} {cast(str, verb.config.__doc__).splitlines()[0]}" for name, verb in VERBS.items()]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Entry point of the `slicemill` command."""
    name, *argv = sys.argv[1:] or [""]
    if name in VERBS:
        sys.exit(run_verb(name, argv))
    if name in ("-V", "--version"):
        sys.stdout.write(f"{__version__}\n")
        sys.exit(0)
    asked = name in ("-h", "--help", "help")
    (sys.stdout if asked else sys.stderr).write(_usage())
    sys.exit(0 if asked else 2)
