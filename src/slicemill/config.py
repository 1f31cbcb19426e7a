"""What a user can set, one frozen dataclass per verb; a line under each field is its help text.

A dataclass checks itself when it is made, and its errors quote the flag.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Literal

from slicemill.errors import ConfigError

#: Scan folders named like the public data set: <project>_<institution>_<patient>_<yyyymmdd>.
PUBLIC_SCAN_PATTERN = (
    r"(?P<patient_id>[A-Za-z0-9]+_(?P<institution>[A-Za-z0-9]+)_[A-Za-z0-9]+)_(?P<scan_date>\d{8})"
)

#: Largest slice that is accepted unless asked otherwise, in pixels.
MAX_PIXELS = 4_194_304


def _require(condition: bool, flag: str, expected: str, found: object) -> None:
    if not condition:
        raise ConfigError(f"{flag} is out of range", expected=expected, found=found)


@dataclass(frozen=True)
class PhantomConfig:
    """Write synthetic head scans with tumours in the public data set's layout. No patient is in them."""

    out: str
    """Folder or s3:// URI for the scan folders."""
    scans: int = 12
    """Scans to write."""
    seed: int = 0
    """Seed: the same seed writes the same bytes."""
    size: int = 256
    """Rows and columns of a slice, in pixels."""

    def __post_init__(self) -> None:
        _require(self.scans >= 1, "--scans", "at least 1", self.scans)
        _require(32 <= self.size <= 1024, "--size", "32 to 1024", self.size)


@dataclass(frozen=True)
class IngestConfig:
    """Turn raw TIFF slices into the lake: slices, scans, quarantine and profile."""

    raw: tuple[str, ...]
    """Folder or s3:// URI that holds scan folders at any depth. Repeat the flag for several."""
    lake: str
    """Folder or s3:// URI of the lake."""
    clinical: str | None = None
    """Clinical table (CSV with any delimiter), joined by patient."""
    max_bad_fraction: float = 1.0
    """Exit with code 3 if more than this fraction of files was set aside (everything is still written)."""
    scan_pattern: str = PUBLIC_SCAN_PATTERN
    """Regular expression for scan folders, with the named groups patient_id, institution, scan_date."""
    prune: bool = False
    """Remove scans from the lake whose folder is gone."""
    bucket: int = 0
    """Group patients into this many patient_bucket= partitions instead of one partition a patient."""
    max_pixels: int = MAX_PIXELS
    """Largest slice that is accepted, in pixels."""

    def __post_init__(self) -> None:
        _require(bool(self.raw), "--raw", "at least one URI", "none")
        _require(0 <= self.max_bad_fraction <= 1, "--max-bad-fraction", "0 to 1", self.max_bad_fraction)
        _require(self.bucket >= 0, "--bucket", "0 or more", self.bucket)
        _require(self.max_pixels >= 1, "--max-pixels", "at least 1", self.max_pixels)


@dataclass(frozen=True)
class SplitConfig:
    """Assign patients to parts or folds; no patient is ever on two sides."""

    lake: str
    """Folder or s3:// URI of the lake."""
    name: str
    """Name of the split."""
    fractions: str | None = None
    """Shares of train, val and test, such as 0.7,0.15,0.15 (the default if nothing else is asked)."""
    folds: int | None = None
    """Number of folds, instead of fractions."""
    holdout: str | None = None
    """File with scan or patient ids, one a line, that become the test part, instead of fractions."""
    val_fraction: float = 0.1
    """With --holdout: share of the remaining patients that becomes val."""
    seed: int = 0
    """Seed of the assignment."""

    def __post_init__(self) -> None:
        asked = [flag for flag, value in self._ways().items() if value is not None]
        if len(asked) > 1:
            raise ConfigError(
                "a split is made one way",
                expected="one of " + ", ".join(self._ways()),
                found=", ".join(asked),
            )
        if not self.name or any(mark in self.name for mark in "/\\. "):
            raise ConfigError(
                "--name is no plain name", expected="letters, digits, - and _", found=repr(self.name)
            )
        if self.folds is not None:
            _require(self.folds >= 2, "--folds", "at least 2", self.folds)
        _require(0 < self.val_fraction < 1, "--val-fraction", "between 0 and 1", self.val_fraction)
        self.part_fractions()

    def _ways(self) -> dict[str, object]:
        return {"--fractions": self.fractions, "--folds": self.folds, "--holdout": self.holdout}

    def part_fractions(self) -> tuple[float, float, float]:
        """Shares of train, val and test, which add up to 1."""
        text = self.fractions or "0.7,0.15,0.15"
        try:
            shares = tuple(float(share) for share in text.split(","))
        except ValueError:
            shares = ()
        if len(shares) != 3 or min(shares) < 0 or abs(sum(shares) - 1) > 1e-6:
            raise ConfigError(
                "--fractions is wrong",
                expected="three shares that add up to 1, such as 0.7,0.15,0.15",
                found=text,
            )
        return shares[0], shares[1], shares[2]


@dataclass(frozen=True)
class TrainConfig:
    """Train a network on a split of the lake, on one or many processes."""

    lake: str
    """Folder or s3:// URI of the lake."""
    split: str
    """Name of the split."""
    out: str
    """Folder or s3:// URI of the run: model, card, metrics, checkpoints, figures."""
    task: Literal["segment", "classify"] = "segment"
    """What the network learns."""
    model: str | None = None
    """Network, by its name in the registry; unet-resnet18, or resnet18 for classify, by default."""
    filters: int | None = None
    """First filters of a MONAI network."""
    dropout: float | None = None
    """Share of activations that are dropped, in networks that drop some."""
    fold: int | None = None
    """With a split of folds: the fold that is left out for testing; the next one validates."""
    epochs: int | None = None
    """Passes over the training part; 24 unless --budget-minutes says how long."""
    budget_minutes: float | None = None
    """Train as many epochs as fit in this time, start and end included; the schedule follows the clock."""
    image_size: int | None = None
    """Rows and columns of the network's input, in pixels, a multiple of 32; 192 on CPU and 256 on GPU."""
    first_size: int | None = None
    """Those in the first half of the run, where small ones save time; as --image-size if that is given, else
    half."""
    batch_size: int = 16
    """Slices per step, over all processes together."""
    accumulate: int = 1
    """Parts in which each process works through its slices of a step, for networks that need the memory."""
    loss: Literal["bce-dice", "dice-focal"] = "bce-dice"
    """What segmentation minimises; classify always minimises cross-entropy."""
    schedule: Literal["one-cycle", "cosine", "constant"] = "one-cycle"
    """How the learning rate changes over the run."""
    learning_rate: float = 2e-3
    """Peak of the schedule."""
    find_learning_rate: bool = False
    """Do not train: try rising learning rates for a while, and write what the loss did."""
    encoder_rate: float = 1.0
    """Factor on the learning rate of the encoder, for one that --init-weights filled."""
    freeze_encoder: bool = False
    """Leave the encoder's convolutions as they begin; its batch norms still adapt."""
    weight_decay: float = 1e-2
    """AdamW's weight decay."""
    channels: Literal["auto", "rgb", "flair25d"] = "auto"
    """Input: a slice's own channels, FLAIR of three neighbouring slices, or that where one is missing."""
    oversample: int = 1
    """Times that a slice with tumour comes in an epoch; every other slice comes once."""
    cache: Literal["none", "ram"] = "none"
    """Keep decoded slices in memory after the first epoch, up to half of what is free."""
    ema: float = 0.99
    """Decay of the average of weights that is validated and published; 0 takes the weights themselves."""
    patience: int = 0
    """Stop after this many epochs without a better validation; 0 never does."""
    non_finite: Literal["skip", "stop"] = "skip"
    """What a number that is not finite does: lose the step (ten in a row stop the run), or stop at once."""
    augment: bool = True
    """Flip, rotate, scale, shift and bend training slices, and change their intensity."""
    augment_strength: float = 1.0
    """Factor on all that augmentation draws."""
    random_labels: bool = False
    """A control for classify: train on labels drawn by lot. What comes out must be worth nothing."""
    num_processes: int = 1
    """Processes that train together."""
    seed: int = 0
    """Seed of weights, order and augmentation."""
    init_weights: str | None = None
    """URI of a torchvision state dict for the encoder; its name carries the hash that is checked."""
    resume: bool = False
    """Go on from the run's last checkpoint."""
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """Arithmetic of the forward pass; auto takes bf16 where the hardware has it, fp16 on a GPU without."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Device of every process; auto takes a GPU if one is there."""
    threshold: float = 0.5
    """Probability from which a pixel, or a slice for classify, is tumour."""
    figures: bool = True
    """Draw curves and example slices each time validation improves."""
    tensorboard: bool = False
    """Write TensorBoard event files into the run."""
    track: str | None = None
    """Log to MLflow: mlflow for mlflow.db in this folder, or mlflow:URI of a store (SQLite or a server)."""
    experiment: str = "slicemill"
    """With --track: experiment that the run belongs to."""
    run_name: str | None = None
    """With --track: name of the run; the last part of --out by default."""

    def __post_init__(self) -> None:
        _require(self.epochs is None or self.epochs >= 1, "--epochs", "at least 1", self.epochs)
        _require(
            self.budget_minutes is None or self.budget_minutes > 0,
            "--budget-minutes",
            "above 0",
            self.budget_minutes,
        )
        for flag, size in (("--image-size", self.image_size), ("--first-size", self.first_size)):
            _require(size is None or (size >= 32 and size % 32 == 0), flag, "a multiple of 32", size)
        _require(self.num_processes >= 1, "--num-processes", "at least 1", self.num_processes)
        _require(
            self.batch_size >= self.num_processes and self.batch_size % self.num_processes == 0,
            "--batch-size",
            f"a multiple of --num-processes ({self.num_processes})",
            self.batch_size,
        )
        per_rank = self.batch_size // self.num_processes
        _require(
            1 <= self.accumulate <= per_rank,
            "--accumulate",
            f"1 to the {per_rank} slices of a process",
            self.accumulate,
        )
        self._check_recipe()

    def _check_recipe(self) -> None:
        _require(self.learning_rate > 0, "--learning-rate", "above 0", self.learning_rate)
        _require(self.oversample >= 1, "--oversample", "at least 1", self.oversample)
        _require(0 < self.encoder_rate <= 1, "--encoder-rate", "above 0, up to 1", self.encoder_rate)
        _require(self.weight_decay >= 0, "--weight-decay", "0 or more", self.weight_decay)
        _require(0 <= self.ema < 1, "--ema", "0 to below 1", self.ema)
        _require(self.patience >= 0, "--patience", "0 or more", self.patience)
        _require(0 <= self.augment_strength <= 3, "--augment-strength", "0 to 3", self.augment_strength)
        _require(0 < self.threshold < 1, "--threshold", "between 0 and 1", self.threshold)
        _require(
            self.track is None or self.track == "mlflow" or self.track.startswith("mlflow:"),
            "--track",
            "mlflow or mlflow:URI",
            self.track,
        )
        _require(self.dropout is None or 0 <= self.dropout < 1, "--dropout", "0 to below 1", self.dropout)
        _require(self.filters is None or self.filters >= 4, "--filters", "at least 4", self.filters)
        if self.random_labels and self.task != "classify":
            raise ConfigError(
                "--random-labels is a control for classifiers",
                expected="--task classify",
                found=f"--task {self.task}",
            )


@dataclass(frozen=True)
class CrossvalConfig(TrainConfig):
    """Train and score every fold of a split; each patient is scored once, by a model that never saw it."""

    parallel: int = 1
    """Folds that are worked on at a time, each with its own --num-processes task slots."""
    leaky_slices: bool = False
    """Measure a leak: cut the folds by random slice instead, patients on both sides. No result but that."""

    def __post_init__(self) -> None:
        super().__post_init__()
        _require(self.parallel >= 1, "--parallel", "at least 1", self.parallel)
        for flag, given in (
            ("--fold", self.fold is not None),
            ("--find-learning-rate", self.find_learning_rate),
        ):
            if given:
                raise ConfigError(
                    f"{flag} has no meaning over all folds", expected="slicemill train", found=flag
                )


@dataclass(frozen=True)
class SweepConfig(TrainConfig):
    """Search for the best settings: trials are training runs, judged by their validation part."""

    space: str = field(kw_only=True)
    """YAML file with what to search: for each setting a list, or low, high, log, step."""
    sampler: Literal["tpe", "random", "grid"] = "tpe"
    """How settings are chosen: by what earlier trials say, by lot, or each combination of the lists."""
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
        _require(self.parallel >= 1, "--parallel", "at least 1", self.parallel)
        _require(self.trials is None or self.trials >= 1, "--trials", "at least 1", self.trials)
        _require(self.minutes is None or self.minutes > 0, "--minutes", "above 0", self.minutes)
        _require(self.prune_after >= 1, "--prune-after", "at least 1", self.prune_after)
        if self.sampler != "grid" and not (self.trials or self.minutes):
            raise ConfigError("a study needs an end", expected="--trials or --minutes", found="neither")
        for flag, given in (
            ("--budget-minutes", self.budget_minutes is not None),
            ("--find-learning-rate", self.find_learning_rate),
            ("--resume", self.resume),
        ):
            if given:
                raise ConfigError(
                    f"{flag} has no meaning in a study",
                    expected="trials of --epochs; a study goes on by itself",
                    found=flag,
                )


@dataclass(frozen=True)
class ScoreConfig:
    """Write predicted masks and per-patient Dice for new scan folders, or for a part of a split."""

    out: str
    """Folder or s3:// URI of the scores."""
    model: str | None = None
    """Folder or s3:// URI of a training run."""
    raw: tuple[str, ...] = ()
    """Folder or s3:// URI of new scan folders, with or without masks. Repeat the flag for several."""
    lake: str | None = None
    """Instead of --raw: the lake, with --split and --part."""
    split: str | None = None
    """Split of the lake."""
    part: str = "test"
    """Part of the split, or fold-K in a split of folds."""
    ready_marker: str | None = None
    """Score a folder only once an object of this name, such as _READY, is in it."""
    quiet_minutes: float = 0.0
    """Score a folder only once its newest object is this old: for senders that leave no marker."""
    batch_size: int | None = None
    """Slices per forward pass; 8 on a CPU and 64 on a GPU by default."""
    threshold: float | None = None
    """Probability from which a pixel is tumour; the model card's by default."""
    tta: bool = False
    """Test-time augmentation: the mean over the slice and its flips, at four times the work."""
    components: Literal["auto", "all", "largest"] = "auto"
    """Connected components of a scan's mask to keep; auto as did better on the model's validation part."""
    compare_with: str | None = None
    """Folder or s3:// URI of another model's scores: compare Dice patient by patient (this minus that)."""
    verify: bool = False
    """Score nothing: check what is in --out against the manifest's hashes; exit code 3 if any differs."""
    scan_pattern: str = PUBLIC_SCAN_PATTERN
    """Regular expression for scan folders, with the named groups patient_id, institution, scan_date."""
    max_pixels: int = MAX_PIXELS
    """Largest slice that is accepted, in pixels."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Arithmetic of the forward pass; auto takes bf16 where the hardware has it."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Device of every worker; auto takes a GPU if one is there."""
    max_bad_fraction: float = 1.0
    """Exit with code 3 if more than this fraction of files was set aside (everything is still written)."""

    def __post_init__(self) -> None:
        if self.verify:
            return
        if not self.model:
            raise ConfigError("--model is missing", expected="the folder of a training run", found="none")
        if bool(self.raw) == bool(self.lake):
            raise ConfigError(
                "scans come from one place",
                expected="--raw, or --lake with --split",
                found="both" if self.raw else "neither",
            )
        if self.lake and not self.split:
            raise ConfigError("--lake lacks its split", expected="--split NAME", found="none")
        if self.ready_marker is not None:
            plain = bool(self.ready_marker) and not re.search(r"[/\\]|\.tiff?$", self.ready_marker)
            _require(plain, "--ready-marker", "a file name that is no slice's", self.ready_marker)
        _require(self.quiet_minutes >= 0, "--quiet-minutes", "0 or more", self.quiet_minutes)
        _require(
            self.batch_size is None or self.batch_size >= 1, "--batch-size", "at least 1", self.batch_size
        )
        _require(
            self.threshold is None or 0 < self.threshold < 1, "--threshold", "between 0 and 1", self.threshold
        )
        _require(0 <= self.max_bad_fraction <= 1, "--max-bad-fraction", "0 to 1", self.max_bad_fraction)


@dataclass(frozen=True)
class ReportConfig:
    """Draw one self-contained HTML page from any of lake, run and scores."""

    out: str
    """Folder or s3:// URI of the report."""
    lake: str | None = None
    """Folder or s3:// URI of the lake."""
    run: str | None = None
    """Folder or s3:// URI of a training run."""
    scores: str | None = None
    """Folder or s3:// URI of scores."""
    raw: tuple[str, ...] = ()
    """Folder or s3:// URI of raw scan folders, for pictures of scans that no lake holds. Repeat the flag."""
    scan: tuple[str, ...] = ()
    """Scan to draw a page of, besides the best and the worst. Repeat the flag for several."""

    def __post_init__(self) -> None:
        if not (self.lake or self.run or self.scores):
            raise ConfigError(
                "nothing to report on", expected="at least one of --lake, --run, --scores", found="none"
            )


@dataclass(frozen=True)
class CommitteeConfig:
    """Put several trained models together: `score --model OUT` takes the mean of their probabilities."""

    out: str
    """Folder or s3:// URI of the committee; the members are copied into it."""
    model: tuple[str, ...] = ()
    """Folder or s3:// URI of a training run, or of a cross-validation for all its folds. Repeat the flag."""

    def __post_init__(self) -> None:
        _require(bool(self.model), "--model", "training runs, or a cross-validation", "none")


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
        _require(bool(self.run), "--run", "at least one NAME=URI", "none")
        names = self.named()
        if len(names) < len(self.run) or "" in names:
            raise ConfigError(
                "--run needs a name of its own for each",
                expected="NAME=URI, each name once",
                found=", ".join(self.run),
            )

    def named(self) -> dict[str, str]:
        """URI by name; a URI without a name is named after its last part."""
        given = [run if "=" in run else f"{run.rstrip('/').rpartition('/')[2]}={run}" for run in self.run]
        return {name: uri for name, _, uri in (run.partition("=") for run in given)}
