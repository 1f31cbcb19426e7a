"""What a user can set of searches, committees and comparisons."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from slicemill.config.checks import require, single_text_as_tuple, spacing_sides
from slicemill.config.training import TrainConfig
from slicemill.errors import ConfigError


@dataclass(frozen=True)
class SweepConfig(TrainConfig):
    """Search for the best settings: trials are training runs, judged by their validation part."""

    space: str = field(kw_only=True)
    """YAML file with what to search: for each setting a list, or low, high, log, step."""
    sampler: Literal["tpe", "random", "grid"] = "tpe"
    """How settings are chosen: by what earlier trials say, at random, or each combination of the lists."""
    trials: int | None = None
    """Trials of the study, those of earlier starts counted; of a grid all unless told otherwise."""
    minutes: float | None = None
    """Begin no trial after this time; the last one ends."""
    prune: bool = True
    """Stop a trial whose best epoch so far is below the median of finished trials at that epoch."""
    prune_after: int = 2
    """Epochs that every trial makes."""
    parallel: int = 1
    """Trials that are worked on at a time, each with its own --num-processes task slots."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.parallel >= 1, "--parallel", "at least 1", self.parallel)
        require(self.trials is None or self.trials >= 1, "--trials", "at least 1", self.trials)
        require(self.minutes is None or self.minutes > 0, "--minutes", "above 0", self.minutes)
        require(self.prune_after >= 1, "--prune-after", "at least 1", self.prune_after)
        if self.sampler != "grid" and not (self.trials or self.minutes):
            raise ConfigError("a study needs an end", expected="--trials or --minutes", found="neither")
        for flag, present in (
            ("--budget-minutes", self.budget_minutes is not None),
            ("--find-learning-rate", self.find_learning_rate),
            ("--resume", self.resume),
            ("--overwrite", self.overwrite),
        ):
            if present:
                raise ConfigError(
                    f"{flag} has no meaning in a study",
                    expected="trials of --epochs; a study goes on by itself",
                    found=flag,
                )


@dataclass(frozen=True)
class CommitteeConfig:
    """Put several trained models together: `score --model OUT` takes the mean of their probabilities."""

    out: str
    """Folder or s3:// URI of the committee; the members are copied into it."""
    model: tuple[str, ...] = ()
    """Folder or s3:// URI of a training run, or of a cross-validation for all its folds. Repeat the flag."""

    def __post_init__(self) -> None:
        single_text_as_tuple(self)
        if not self.model:
            raise ConfigError(
                "a committee has no members",
                expected="--model with training runs, or a cross-validation",
                found="no --model",
            )


@dataclass(frozen=True)
class CompareConfig:
    """Set runs side by side: accuracy with intervals, paired differences, size, time and speed."""

    out: str
    """Folder or s3:// URI for compare.md, compare.html and compare.json."""
    run: tuple[str, ...] = ()
    """NAME=URI, or a URI alone: results of crossval, scores, or a training run. Repeat the flag."""
    metric: Literal["dice", "slice_mean_dice"] = "dice"
    """Of segmentation, what differences are of: Dice over a patient's volume, or its slices' mean."""
    show_leak: bool = False
    """Take results of crossval --leaky-slices too, named as what they are."""

    def __post_init__(self) -> None:
        single_text_as_tuple(self)
        require(bool(self.run), "--run", "at least one NAME=URI", "none")
        names = self.named()
        if len(names) < len(self.run) or "" in names:
            raise ConfigError(
                "--run needs a name of its own for each",
                expected="NAME=URI, each name once",
                found=", ".join(self.run),
            )

    def named(self) -> dict[str, str]:
        """URI by name; a URI without a name is named after its last part."""
        pairs = [run if "=" in run else f"{run.rstrip('/').rpartition('/')[2]}={run}" for run in self.run]
        return {name: uri for name, _, uri in (run.partition("=") for run in pairs)}


@dataclass(frozen=True)
class AssociateConfig:
    """Test the shape of predicted and of true masks against clinical columns, such as genomic clusters."""

    lake: str
    """Folder or s3:// URI of the lake, for true masks and clinical columns."""
    out: str
    """Folder or s3:// URI for features, tests and the page."""
    scores: tuple[str, ...] = ()
    """Folder or s3:// URI of scores, or of a cross-validation for all its folds. Repeat the flag."""
    outcome: tuple[str, ...] = ()
    """Clinical column to test against; those whose name ends in Cluster by default. Repeat the flag."""
    target: tuple[str, ...] = ()
    """Clinical column to predict from shape, cross-validated, against labels at random. Repeat the flag."""
    time: str | None = None
    """Clinical column with the time to death, or to when the patient was last seen; with --event."""
    event: str | None = None
    """Clinical column that is 1 of patients who died at --time, and 0 of those who were last seen then."""
    spacing: str = "1,1,1"
    """Distance of slices, rows and columns, dz,dy,dx: millimetres or clinical columns. 1,1,1: in voxels."""
    seed: int = 0
    """Seed of random tables and bootstrap samples."""

    def __post_init__(self) -> None:
        single_text_as_tuple(self)
        require(bool(self.scores), "--scores", "at least one score folder, or a cross-validation", "none")
        if (self.time is None) != (self.event is None):
            raise ConfigError(
                "survival needs two columns",
                expected="--time COLUMN and --event COLUMN",
                found=f"--time {self.time}" if self.time else f"--event {self.event}",
            )
        self.sides()

    def sides(self) -> tuple[float | str, ...]:
        """Distance of slices, rows and columns, each a number or a clinical column; raises ConfigError."""
        return spacing_sides(self.spacing)
