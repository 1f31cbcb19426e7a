"""One way to run a verb, for jobs and the command line: parse, open a session, run, summarise, exit.

The last line on standard output is one JSON object; logs go to standard error. Exit codes: 0 done, 1 failed,
2 bad arguments or configuration, 3 done but the data fell short of the limit that was set.
"""

from __future__ import annotations

import argparse
import dataclasses
import io
import json
import logging
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr
from pathlib import Path
from typing import Any, TypeVar

import tyro

from slicemill.errors import ConfigError, SlicemillError
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
    positional: bool = False,
) -> int:
    """Run `action` on the configuration in `argv` and return the exit code.

    With `from_file`, `--config FILE` gives settings that the other arguments go before. With `positional`,
    what has no default comes without its flag.
    """
    _log_to_stderr()
    start = time.monotonic()
    place = None
    try:
        with _terminable():
            place, argv = _summary_place(name, sys.argv[1:] if argv is None else argv)
            summary = action(_parse(name, config_type, argv, from_file, positional))
    except SystemExit as stop:
        if stop.code in (0, None):
            return 0
        summary = _failed(f"stopped with exit code {stop.code}")
    except SlicemillError as error:
        summary = _failed(str(error), "bad_arguments" if error.exit_code == 2 else "failed")
    except KeyboardInterrupt as interrupt:
        summary = _failed(str(interrupt) or "interrupted")
    except Exception as error:
        summary = _unexpected(error)
    summary = {"job": name.rpartition(" ")[2], **summary, "seconds": round(time.monotonic() - start, 3)}
    if place is not None:
        summary = _store_summary(place, summary)
    return _end(summary)


def _unexpected(error: Exception) -> Summary:
    """Summary of an error that is not known as the user's mistake; its trace belongs in the log.

    A signal to the whole process group ends the JVM too, and what Py4J then says of its lost connection
    hides the interrupt that came first, or the reason why the JVM is gone.
    """
    earlier: BaseException | None = error
    while earlier is not None:
        if isinstance(earlier, KeyboardInterrupt):
            return _failed(str(earlier) or "interrupted")
        earlier = earlier.__cause__ or earlier.__context__
    log.error("%s", traceback.format_exc())
    if _lost_jvm(error):
        return _failed(
            "Spark's JVM has ended before the job. It was interrupted, killed or out of memory: see the log, "
            "then start the job again."
        )
    return _failed(f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}")


def _lost_jvm(error: Exception) -> bool:
    """Whether Py4J lost its connection; an exception of Java's own comes as another type."""
    lost = {"Py4JError", "Py4JNetworkError", "ConnectionRefusedError", "ConnectionResetError"}
    frames = traceback.extract_tb(error.__traceback__)
    return type(error).__name__ in lost and any("py4j" in Path(frame.filename).parts for frame in frames)


def fail(name: str, error: SlicemillError) -> int:
    """End a job that did not begin, as `run_job` ends one that failed; return the exit code."""
    _log_to_stderr()
    return _end({"job": name, **_failed(str(error), "bad_arguments"), "seconds": 0.0})


def _log_to_stderr() -> None:
    logging.basicConfig(
        level=logging.WARNING,
        stream=sys.stderr,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
        datefmt="%H:%M:%S",
    )
    log.setLevel(logging.INFO)


def _failed(error: str, status: str = "failed") -> Summary:
    return {"status": status, "error": error}


def _end(summary: Summary) -> int:
    """Say on standard error what the summary says, then write the summary; return the exit code."""
    if summary.get("error"):
        log.error("%s", summary["error"])
    sys.stderr.flush()
    sys.stdout.write(json.dumps(summary) + "\n")
    sys.stdout.flush()
    return {"done": 0, "bad_arguments": 2, "data_short": 3}.get(summary["status"], 1)


@contextmanager
def _terminable() -> Iterator[None]:
    """SIGTERM ends the job as an interrupt does: locks are let go, and the summary is written."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt("ended by SIGTERM")

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def _refusal(name: str) -> Iterator[None]:
    """A parser's message as one sentence in a ConfigError; what it prints to standard error is caught."""
    parser_output = io.StringIO()
    try:
        with redirect_stderr(parser_output):
            yield
    except SystemExit as stop:
        if stop.code in (0, None):
            raise
        message = _sentence(parser_output.getvalue()) or "the arguments can't be read"
        raise ConfigError(message, advice=f"See {name} --help.") from None
    sys.stderr.write(parser_output.getvalue())


def _sentence(text: str) -> str:
    """A message without its frame, help and line breaks: of tyro's boxes, or behind argparse's `error:`."""
    if "error: " in text:
        return " ".join(text.rpartition("error: ")[2].split())
    parts: list[list[str]] = [[]]
    for line in text.splitlines():
        if line.startswith(("╭", "╰")):
            continue
        content = line.strip("│ ").strip()
        if content and not content.strip("─"):
            parts.append([])
        elif content:
            parts[-1].append(content)
    helpful = ("For full helptext", "Argument helptext")
    return "; ".join(" ".join(part) for part in parts if part and not part[0].startswith(helpful))


def _summary_place(name: str, argv: Sequence[str]) -> tuple[str | None, Sequence[str]]:
    """The URI after `--summary`, which every verb takes, and the other arguments."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--summary")
    with _refusal(name):
        places, arguments = parser.parse_known_args(argv)
    return places.summary, arguments


def _store_summary(place: str, summary: Summary) -> Summary:
    """Write the summary line to a file too. A summary that can't be written is a failure of the job."""
    try:
        storage.write_json(canonical(place), summary)
    except SlicemillError as error:
        return {**summary, "status": "failed", "error": summary.get("error", str(error))}
    return summary


def _parse(
    name: str,
    config_type: type[Config],
    argv: Sequence[str] | None,
    from_file: bool,
    positional: bool = False,
) -> Config:
    arguments, options = argv, dict[str, Any]()
    if from_file:
        first = argparse.ArgumentParser(prog=name, add_help=False, allow_abbrev=False)
        first.add_argument("--config")
        with _refusal(name):
            file_options, arguments = first.parse_known_args(argv)
        options["description"] = f"{config_type.__doc__} {_FILE_HELP}"
        if file_options.config:
            options["default"] = _defaults(config_type, file_options.config)
    markers: tuple[Any, ...] = (tyro.conf.FlagCreatePairsOff, tyro.conf.UseAppendAction)
    if positional:
        markers = (tyro.conf.FlagCreatePairsOff, tyro.conf.PositionalRequiredArgs)
    try:
        with _refusal(name):
            config: Config = tyro.cli(
                config_type,
                prog=name,
                args=arguments,
                config=markers,
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
