"""The verbs of `slicemill`, the same for the command line and for the files in jobs/."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from slicemill import __version__, api
from slicemill.config import (
    AssociateConfig,
    CommitteeConfig,
    CompareConfig,
    CrossvalConfig,
    ExportConfig,
    ForgetConfig,
    IngestConfig,
    PhantomConfig,
    PredictConfig,
    PromoteConfig,
    QuantiseConfig,
    ReportConfig,
    RollbackConfig,
    ScoreConfig,
    ServeConfig,
    SplitConfig,
    SweepConfig,
    TrainConfig,
)
from slicemill.emr.config import EmrConfig
from slicemill.errors import ConfigError
from slicemill.io.first_look import look
from slicemill.runner import Summary, fail, run_job


def _score(config: ScoreConfig) -> Summary:
    return api.verify(config) if config.verify else api.score(config)


def _emr(config: EmrConfig) -> Summary:
    from slicemill.emr import verbs

    return verbs.run(config)


@dataclass(frozen=True)
class _Verb:
    config: type[Any]
    action: Callable[[Any], Summary]
    from_file: bool = False
    """Whether --config FILE may give settings."""
    positional: bool = False
    """Whether what must be given comes without a flag."""
    aliases: Mapping[str, str] = field(default_factory=dict)
    """Flags by other words for them, which can't be names in Python."""


_AS = {"--as": "--pointer"}

VERBS = {
    "phantom": _Verb(PhantomConfig, api.phantom),
    "ingest": _Verb(IngestConfig, api.ingest),
    "split": _Verb(SplitConfig, api.split),
    "train": _Verb(TrainConfig, api.train, from_file=True),
    "crossval": _Verb(CrossvalConfig, api.crossval, from_file=True),
    "sweep": _Verb(SweepConfig, api.sweep, from_file=True),
    "committee": _Verb(CommitteeConfig, api.committee),
    "compare": _Verb(CompareConfig, api.compare),
    "associate": _Verb(AssociateConfig, api.associate),
    "score": _Verb(ScoreConfig, _score),
    "predict": _Verb(PredictConfig, api.predict, positional=True),
    "serve": _Verb(ServeConfig, api.serve),
    "promote": _Verb(PromoteConfig, api.promote, aliases=_AS),
    "rollback": _Verb(RollbackConfig, api.rollback, aliases=_AS),
    "export": _Verb(ExportConfig, api.export),
    "quantise": _Verb(QuantiseConfig, api.quantise),
    "report": _Verb(ReportConfig, api.report),
    "forget": _Verb(ForgetConfig, api.forget),
    "emr": _Verb(EmrConfig, _emr),
}


def run_verb(name: str, argv: Sequence[str] | None = None) -> int:
    """Run one verb on its arguments (the process's own by default) and return the exit code."""
    verb = VERBS[name]
    arguments = [_known(text, verb.aliases) for text in (sys.argv[1:] if argv is None else argv)]

    def look_and_act(config: Any) -> Summary:
        look(config)
        return verb.action(config)

    return run_job(
        f"slicemill {name}",
        verb.config,
        look_and_act,
        arguments,
        from_file=verb.from_file,
        positional=verb.positional,
    )


def _known(argument: str, aliases: Mapping[str, str]) -> str:
    flag, equals, value = argument.partition("=")
    return f"{aliases.get(flag, flag)}{equals}{value}"


def _unknown(name: str) -> int:
    """Say which verb was probably meant, as every job says what was wrong."""
    near = difflib.get_close_matches(name, VERBS, n=1)
    error = ConfigError(
        f"slicemill has no verb {name!r}",
        expected=f"one of {', '.join(VERBS)}",
        found=repr(name),
        advice=f"Did you mean {near[0]}?" if near else "See slicemill --help.",
    )
    return fail(name, error)


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
    if name in ("-h", "--help", "help"):
        sys.stdout.write(_usage())
        sys.exit(0)
    if not name:
        sys.stderr.write(_usage())
        sys.exit(2)
    sys.exit(_unknown(name))
