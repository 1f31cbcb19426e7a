"""One way to run a verb, for jobs and the command line: parse, open a session, run, summarise, exit.

The last line on standard output is one JSON object; logs go to standard error. Exit codes: 0 done, 1 failed,
2 bad arguments or configuration, 3 done but the data fell short of the limit that was set.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import logging
import os
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import tyro

from slicemill.errors import SlicemillError
from slicemill.io import storage
from slicemill.io.settings_file import read_settings
from slicemill.io.storage.uri import canonical

log = logging.getLogger("slicemill")

_FILE_HELP = "--config FILE takes settings from a YAML file, by their names; arguments go before it."

Config = TypeVar("Config")
Summary = dict[str, Any]


def run_job(
    name: str,
    config_type: type[Config],
    action: Callable[[Config], Summary],
    argv: Sequence[str] | None = None,
    *,
    from_file: bool = False,
) -> int:
    """Run `action` on the configuration in `argv` and return the exit code.

    With `from_file`, `--config FILE` gives settings that the other arguments go before.
    """
    logging.basicConfig(
        level=logging.WARNING,
        stream=sys.stderr,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
        datefmt="%H:%M:%S",
    )
    log.setLevel(logging.INFO)
    start = time.monotonic()
    place = None
    try:
        place, argv = _summary_place(sys.argv[1:] if argv is None else argv)
        summary = action(_parse(name, config_type, argv, from_file))
    except SystemExit as stop:
        if stop.code in (0, None):
            return 0
        summary = {"status": "bad_arguments", "error": "the arguments could not be read; see standard error"}
    except SlicemillError as error:
        log.error("%s", error)
        summary = {"status": "bad_arguments" if error.exit_code == 2 else "failed", "error": str(error)}
    except KeyboardInterrupt:
        log.error("interrupted")
        summary = {"status": "failed", "error": "interrupted"}
    except Exception as error:
        # Not the user's mistake as far as we know: the trace belongs in the log.
        log.error("%s", traceback.format_exc())
        summary = {
            "status": "failed",
            "error": f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}",
        }
    summary = {"job": name.rpartition(" ")[2], **summary, "seconds": round(time.monotonic() - start, 3)}
    if place is not None:
        summary = _store_summary(place, summary)
    sys.stderr.flush()
    sys.stdout.write(json.dumps(summary) + "\n")
    sys.stdout.flush()
    return {"done": 0, "bad_arguments": 2, "data_short": 3}.get(summary["status"], 1)


def _summary_place(argv: Sequence[str]) -> tuple[str | None, Sequence[str]]:
    """The URI after `--summary`, which every verb takes, and the other arguments."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--summary")
    places, others = parser.parse_known_args(argv)
    return places.summary, others


def _store_summary(place: str, summary: Summary) -> Summary:
    """Write the summary line to a file too. A summary that can't be written is a failure of the job."""
    try:
        storage.write_json(canonical(place), summary)
    except SlicemillError as error:
        log.error("%s", error)
        return {**summary, "status": "failed", "error": summary.get("error", str(error))}
    return summary


def _parse(name: str, config_type: type[Config], argv: Sequence[str] | None, from_file: bool) -> Config:
    told, options = argv, dict[str, Any]()
    if from_file:
        first = argparse.ArgumentParser(prog=name, add_help=False, allow_abbrev=False)
        first.add_argument("--config")
        given, told = first.parse_known_args(argv)
        options["description"] = f"{config_type.__doc__} {_FILE_HELP}"
        if given.config:
            options["default"] = _defaults(config_type, given.config)
    try:
        config: Config = tyro.cli(
            config_type,
            prog=name,
            args=told,
            config=(tyro.conf.UseAppendAction, tyro.conf.FlagCreatePairsOff),
            **options,
        )
    except BrokenPipeError:
        # `--help | head`: its reader has seen enough, and Python's flush at exit would complain again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(0) from None
    return config


def _defaults(config_type: type[Config], uri: str) -> Config:
    """The file's settings as defaults; what neither it nor the class gives must be among the arguments."""
    required = {
        field.name: tyro.MISSING
        for field in dataclasses.fields(config_type)  # type: ignore[arg-type]  # a dataclass, untold
        if field.default is dataclasses.MISSING
    }
    return config_type(**{**required, **read_settings(uri, config_type)})
