"""The whole rehearsal, on the primary node of a local YARN: `make rehearsal`.

Runs the step files of `emr/steps` word for word, a training of two processes, and nights of the state
machine whose steps are the same jobs. Each has the key of its own role, and the gate answers 403 to what a
role may not do. Prints a table; exit code 1 if anything came out otherwise than it should.
"""

from __future__ import annotations

import argparse
import json
import logging
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path

from data import clear, read_content, upload, without
from night import RUN, Account, account
from node import ROOT, Node, Outcome, Strike, bare, pack_environment
from strikes import kill_driver, kill_node

from slicemill.emr.capacity.shapes import SHAPES
from slicemill.emr.requests.job_settings import JobName
from slicemill.emr.requests.steps import DeployMode, Step, job_arguments

#: Scans of the beginning; one more comes in the good night, and one more that can't be read.
SCANS = 5
SPLIT = "first"
#: What the archives' step files name.
ARCHIVE_KEY = f"environments/slicemill-cpu-{'0' * 64}.tar.gz"
PIPELINE, TRAINING = "PipelineRole", "TrainingRole"
#: A training, and a network to score with, that end on two cores.
_SMALL = ("--epochs", "1", "--image-size", "32", "--model", "monai-unet", "--filters", "4")
_COUNTS = ("scans", "scored", "quarantined", "failed", "waiting")
#: Of each mode: the end of its step files' names, and how a Spark job is deployed.
_MODES: dict[str, tuple[str, DeployMode]] = {
    "client": ("", "client"),
    "cluster": ("-cluster-mode", "cluster"),
    "archive": ("-archive", "cluster"),
}


@dataclass(frozen=True)
class Row:
    """A line of the table."""

    step: str
    mode: str
    role: str
    seconds: float
    result: str
    right: bool

    def __str__(self) -> str:
        mark = "" if self.right else "WRONG: "
        return f"| {self.step} | {self.mode} | {self.role} | {self.seconds:.0f} | {mark}{self.result} |"


def _any(outcome: Outcome) -> bool:
    return True


def _success(outcome: Outcome) -> bool:
    return outcome.code == 0


@dataclass
class Rehearsal:
    """Steps and nights of one account on one node."""

    home: Account
    node: Node
    rows: list[Row] = field(default_factory=list)
    night: str = ""
    """The night whose steps run."""
    strike: Strike | None = None
    """What befalls the night's first scoring."""

    def add(self, row: Row) -> None:
        """One line more, which is shown at once."""
        self.rows.append(row)
        print(row, flush=True)

    def step(
        self,
        name: str,
        mode: str,
        role: str,
        words: Sequence[str],
        right: Callable[[Outcome], bool] = _success,
        strike: Strike | None = None,
    ) -> Outcome:
        """Run a step's words by the key of a role."""
        log = re.sub(r"\W+", "-", f"{name}-{mode}")
        variables = self.home.variables(role)
        with bare() if mode == "archive" else nullcontext():
            outcome = self.node.run(log, words, variables, configured=mode != "archive", strike=strike)
        row = Row(name, mode, role, outcome.seconds, _result(outcome), right(outcome))
        self.add(row)
        if not row.right:
            print(f"rehearse.py: see {outcome.log}", flush=True)
        return outcome

    def night_step(self, words: Sequence[str], variables: Mapping[str, str]) -> int:
        """A step of the state machine, which says itself what becomes of a failure."""
        job = Path(next(word for word in words if word.endswith(".py"))).stem
        mode = "client" if "spark-submit" in words else "plain"
        strike = None
        if job == "score":
            strike, self.strike = self.strike, None
        name, role = f"{self.night}: {job}", variables["AWS_ACCESS_KEY_ID"]
        return self.step(name, mode, role, words, _any, strike).code


def _result(outcome: Outcome) -> str:
    summary = outcome.summary
    counts = ", ".join(f"{name} {summary[name]}" for name in _COUNTS if name in summary)
    text = f"{summary.get('status', 'no summary')}{f': {counts}' if counts else ''}"
    return text if outcome.code == 0 else f"exit code {outcome.code}, {text}"


def prepare(play: Rehearsal, work: Path, archive: Path) -> list[Path]:
    """Scans, jobs and environment in S3, the environment on the node; returns the scans that come later."""
    home, raw = play.home, work / "raw"
    shutil.rmtree(raw, ignore_errors=True)
    phantom = [str(Path(sys.executable).parent / "slicemill"), "phantom", "--out", str(raw)]
    subprocess.run([*phantom, "--scans", str(SCANS + 2), "--size", "64"], check=True, capture_output=True)
    folders = sorted(path for path in raw.iterdir() if path.is_dir())
    upload(home, [*(path for path in raw.iterdir() if path.is_file()), *folders[:SCANS]])
    s3, bucket = home.client("s3"), home.site.code_bucket
    key = f"environments/{archive.name}"
    for name in (key, ARCHIVE_KEY):
        s3.upload_file(str(archive), bucket, name)
    for path in (ROOT / "jobs").glob("*.py"):
        s3.upload_file(str(path), bucket, f"jobs/{path.name}")
    outcome = play.node.bootstrap(home.site.code(key), home.variables(PIPELINE))
    line = outcome.log.read_text("utf-8").splitlines()[-1]
    play.add(Row("bootstrap", "plain", PIPELINE, outcome.seconds, line, outcome.code == 0))
    if outcome.code:
        raise SystemExit(f"rehearse.py: see {outcome.log}")
    return folders[SCANS:]


def step_file(name: str) -> list[str]:
    """The words of a step file."""
    (step,) = json.loads((ROOT / "emr" / "steps" / f"{name}.json").read_text("utf-8"))
    return list(step["HadoopJarStep"]["Args"])


def training(home: Account, run: str, deploy: DeployMode, archive: str | None) -> list[str]:
    """The words of a training of two processes on CPU nodes."""
    site, nodes = home.site, SHAPES["cpu"]
    arguments = (*job_arguments("train", site, nodes, run, SPLIT), *_SMALL)
    return Step("train", arguments, deploy, archive).command(site, nodes)


def all_steps(play: Rehearsal, modes: Sequence[str]) -> None:
    """Every step file of CPU nodes in each of these modes; all modes must write the same.

    Raises SystemExit at the first mode that fails: nothing that follows could be right.
    """
    home, contents = play.home, {}
    for mode in modes:
        suffix, deploy = _MODES[mode]
        clear(home, "lake/", "scores/")
        play.step("ingest", mode, PIPELINE, step_file(f"ingest{suffix}"))
        play.step("split", "plain", PIPELINE, step_file("split"))
        archive = home.site.code(ARCHIVE_KEY) if mode == "archive" else None
        run = RUN if mode == modes[0] else mode
        play.step("train, 2 processes", mode, TRAINING, training(home, run, deploy, archive))
        # All modes score by one model, so that their masks can be compared.
        play.step("score", mode, PIPELINE, step_file(f"score{suffix}"))
        if not all(row.right for row in play.rows):
            raise SystemExit(f"rehearse.py: {mode} mode failed")
        contents[mode] = read_content(home, RUN)
    play.step("report", "plain", PIPELINE, step_file("report"))
    _wrong_role(play)
    first = contents[modes[0]]
    same = bool(first.masks) and all(other == first for other in contents.values())
    result = f"{len(first.scans)} scans, {len(first.masks)} masks, {'equal' if same else 'not equal'}"
    play.add(Row("lake, Dice and masks", ", ".join(contents), "", 0, result, same))


def _wrong_role(play: Rehearsal) -> None:
    """A job by the key of another role, which may not write what the job writes."""
    words, refusals = step_file("split"), play.home.gate.refusals
    words[words.index("--name") + 1] = "second"

    def right(outcome: Outcome) -> bool:
        actions = {(refusal.role, refusal.action) for refusal in refusals}
        return outcome.code != 0 and (TRAINING, "s3:PutObject") in actions

    play.step("split, by the wrong role", "plain", TRAINING, words, right)
    refusals.clear()


def nights(play: Rehearsal, scans: Sequence[Path]) -> None:
    """A good night, and four on which something goes wrong; each fires twice.

    After a driver that was killed and a node that died, lake, Dice and masks must be those of the good night.
    """
    home, (good, poison) = play.home, scans
    upload(home, [good])
    _night(play, "good night", "SUCCEEDED", ("ingest", "score", "report"), "")
    expected = read_content(home, RUN)
    for name, strike, jobs in (
        ("night of a killed driver", kill_driver, ("ingest", "score", "score", "report")),
        ("night of a dead node", kill_node, ("ingest", "score", "report")),
    ):
        clear(home, "scores/")
        play.strike = strike
        _night(play, name, "SUCCEEDED", jobs, "")
        same = read_content(home, RUN) == expected
        play.add(Row(f"{name}: lake, Dice, masks", "", "", 0, "equal" if same else "not equal", same))
    with without(home, f"runs/{RUN}/"):
        _night(play, "night without a model", "FAILED", ("ingest", "score", "score"), "slicemill score: exit")
    for path in poison.iterdir():
        path.write_bytes(b"no image")
    upload(home, [poison])
    _night(play, "poisoned night", "FAILED", ("ingest", "score", "report"), "more was set aside")


def _night(play: Rehearsal, name: str, status: str, jobs: tuple[JobName, ...], message: str) -> None:
    play.night, first = name, len(play.rows)
    night = play.home.night(name.replace(" ", "-"))
    rows = play.rows[first:]
    names = tuple(row.step.rpartition(": ")[2] for row in rows)
    text = " ".join(night.messages)
    right = (night.status, names) == (status, jobs) and bool(text) == bool(message) and message in text
    result = f"{night.status}: {', '.join(names)}; {text or 'no message'}"
    seconds = sum(row.seconds for row in rows)
    play.add(Row(f"{name}, fired twice", "state machine", "NightlyRole", seconds, result, right))


def main() -> int:
    """Rehearse; exit code 1 if anything came out wrong."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("work", type=Path, help="yarn-local.sh's folder, for logs and configurations")
    parser.add_argument("--archive", type=Path, help="a packed environment, not one that weighs nothing")
    parser.add_argument("--modes", nargs="+", choices=list(_MODES), default=list(_MODES))
    options = parser.parse_args()
    # Thousands of lines: of each request, and of each failure that a night is meant to have.
    for name in ("werkzeug", "moto"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    work = options.work.resolve()
    archive = options.archive or pack_environment(work / "packing")
    print("| step | mode | role | seconds | result |\n| --- | --- | --- | --- | --- |", flush=True)
    with account(lambda words, variables: play.night_step(words, variables)) as home:
        play = Rehearsal(home, Node(work, home.site, home.endpoint))
        try:
            scans = prepare(play, work, archive)
            all_steps(play, options.modes)
            nights(play, scans)
        finally:
            play.node.close()
            refusals = {(row.role, row.action, row.resource) for row in home.gate.refusals}
            for role, action, resource in sorted(refusals):
                print(f"rehearse.py: refused: {role}: {action} on {resource}")
    wrong = [row.step for row in play.rows if not row.right]
    print(f"rehearse.py: {len(play.rows)} rows, wrong: {', '.join(wrong) or 'none'}")
    return 1 if wrong or refusals else 0


if __name__ == "__main__":
    sys.exit(main())
