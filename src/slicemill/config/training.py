"""What a user can set of training one network, over folds or on a split."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from slicemill.config.checks import require
from slicemill.errors import ConfigError

#: What segmentation can minimise, by its name; `slicemill.model.training.losses` has them.
LOSSES = ("bce-dice", "dice-focal")


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
    """Network: a name or package.module:function; unet-lite0, or lite0 for classify, by default."""
    filters: int | None = None
    """First filters of a MONAI network."""
    dropout: float | None = None
    """Share of activations that are dropped, in networks that drop some."""
    fold: int | None = None
    """With a split of folds: the fold that is left out for testing; the next one validates."""
    val_share: float | None = None
    """With a split of folds: the share of the other folds' patients that validates, so that more train than
    when the next fold does."""
    epochs: int | None = None
    """Passes over the training part; 24 unless --budget-minutes says how long."""
    budget_minutes: float | None = None
    """Train as many epochs as fit in this time, start and end included; the schedule follows the clock."""
    image_size: int | None = None
    """Rows and columns of the network's input, in pixels, a multiple of 32; 192 on CPU and 256 on GPU, or
    what --budget-minutes affords."""
    first_size: int | None = None
    """Those in the first half of the run, where small ones save time; as --image-size if that is given, else
    half."""
    batch_size: int = 16
    """Slices per step, over all processes together."""
    accumulate: int = 1
    """Parts in which each process works through its slices of a step, for networks that need the memory."""
    loss: str = "bce-dice"
    """What segmentation minimises: bce-dice, dice-focal or package.module:function; classify always minimises
    cross-entropy."""
    dice_weight: float = 1.0
    """Weight of the batch's Dice in that loss; the cross-entropy has 1."""
    schedule: Literal["one-cycle", "cosine", "constant"] = "one-cycle"
    """How the learning rate changes over the run."""
    learning_rate: float = 2e-3
    """Peak of the schedule."""
    find_learning_rate: bool = False
    """Do not train: try rising learning rates for a while, and write what the loss did."""
    encoder_rate: float | None = None
    """Factor on the learning rate of the encoder; 0.3 for one that starts from --init-weights, else 1."""
    freeze_encoder: bool = False
    """Leave the encoder's convolutions as they begin; its batch norms still adapt."""
    weight_decay: float = 1e-2
    """AdamW's weight decay."""
    channels: Literal["auto", "rgb", "flair25d"] = "rgb"
    """Input: a slice's own channels, FLAIR of three neighbouring slices, or auto: these where a sequence is
    missing."""
    normalisation: Literal["volume", "tissue", "none"] = "volume"
    """How grey values are scaled, scan by scan: by all voxels of the volume, by its tissue, or not at all."""
    oversample: int = 1
    """Times that a slice with tumour comes in an epoch; every other slice comes once."""
    sampling: Literal["slices", "patients"] = "slices"
    """What comes equally often in an epoch: every slice, or every patient, whatever the number of slices."""
    tumour_share: float | None = None
    """Share of a scan's slices in an epoch that show tumour, where it has both kinds; as is by default."""
    cache: Literal["none", "ram", "gpu"] = "none"
    """Keep decoded slices: in memory after the first epoch, up to half of what is free; or on the device of
    every process from the start, where they fit."""
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
    """A control for classify: train on random labels. What comes out must be worth nothing."""
    num_processes: int = 1
    """Processes that train together."""
    seed: int = 0
    """Seed of weights, order and augmentation."""
    init_weights: str | None = None
    """Where the encoder starts: imagenet, none, or the URI of torchvision's or timm's state dict, whose name
    carries the hash that is checked. imagenet where the network has such weights, else none, by default."""
    init_from: str | None = None
    """URI of a finished run of the same network, to go on from its weights with other scans (fine-tuning)."""
    resume: bool = False
    """Go on from the run's last checkpoint."""
    overwrite: bool = False
    """Replace the finished run in --out: its model, metrics, checkpoints and pictures are removed first."""
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
    """With --track: name of the run; by default the last part of --out, or the one before a last part run."""

    def __post_init__(self) -> None:
        require(self.epochs is None or self.epochs >= 1, "--epochs", "at least 1", self.epochs)
        require(
            self.budget_minutes is None or self.budget_minutes > 0,
            "--budget-minutes",
            "above 0",
            self.budget_minutes,
        )
        for flag, size in (("--image-size", self.image_size), ("--first-size", self.first_size)):
            require(size is None or (size >= 32 and size % 32 == 0), flag, "a multiple of 32", size)
        if self.first_size and self.image_size:
            limit = f"at most --image-size ({self.image_size})"
            require(self.first_size <= self.image_size, "--first-size", limit, self.first_size)
        require(self.num_processes >= 1, "--num-processes", "at least 1", self.num_processes)
        require(
            self.batch_size >= self.num_processes and self.batch_size % self.num_processes == 0,
            "--batch-size",
            f"a multiple of --num-processes ({self.num_processes})",
            self.batch_size,
        )
        per_rank = self.batch_size // self.num_processes
        require(
            1 <= self.accumulate <= per_rank,
            "--accumulate",
            f"1 to the {per_rank} slices of a process",
            self.accumulate,
        )
        if self.resume and self.overwrite:
            raise ConfigError(
                "--resume and --overwrite exclude each other", expected="one of them", found="both"
            )
        share = self.val_share
        require(share is None or 0 < share < 1, "--val-share", "between 0 and 1", share)
        self._check_recipe()

    def _check_recipe(self) -> None:
        require(
            self.loss in LOSSES or ":" in self.loss,
            "--loss",
            f"{', '.join(LOSSES)} or package.module:function",
            self.loss,
        )
        require(
            self.init_from is None or self.init_weights is None,
            "--init-from",
            "either it or --init-weights",
            "both",
        )
        require(self.learning_rate > 0, "--learning-rate", "above 0", self.learning_rate)
        require(self.oversample >= 1, "--oversample", "at least 1", self.oversample)
        share = self.tumour_share
        require(share is None or 0 <= share <= 1, "--tumour-share", "0 to 1", share)
        if self.oversample > 1 and (share is not None or self.sampling == "patients"):
            raise ConfigError(
                "--oversample has no meaning where scans have quotas",
                expected="--oversample alone, or --tumour-share and --sampling patients",
                found=f"--oversample {self.oversample}",
            )
        require(self.dice_weight >= 0, "--dice-weight", "0 or more", self.dice_weight)
        rate = self.encoder_rate
        require(rate is None or 0 < rate <= 1, "--encoder-rate", "above 0, up to 1", rate)
        require(self.weight_decay >= 0, "--weight-decay", "0 or more", self.weight_decay)
        require(0 <= self.ema < 1, "--ema", "0 to below 1", self.ema)
        require(self.patience >= 0, "--patience", "0 or more", self.patience)
        require(0 <= self.augment_strength <= 3, "--augment-strength", "0 to 3", self.augment_strength)
        require(0 < self.threshold < 1, "--threshold", "between 0 and 1", self.threshold)
        require(
            self.track is None or self.track == "mlflow" or self.track.startswith("mlflow:"),
            "--track",
            "mlflow or mlflow:URI",
            self.track,
        )
        require(self.dropout is None or 0 <= self.dropout < 1, "--dropout", "0 to below 1", self.dropout)
        require(self.filters is None or self.filters >= 4, "--filters", "at least 4", self.filters)
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
        require(self.parallel >= 1, "--parallel", "at least 1", self.parallel)
        if self.leaky_slices and self.val_share is not None:
            raise ConfigError(
                "--val-share has no meaning over folds by random slice",
                expected="--leaky-slices alone",
                found=f"--val-share {self.val_share}",
            )
        for flag, present in (
            ("--fold", self.fold is not None),
            ("--find-learning-rate", self.find_learning_rate),
            ("--overwrite", self.overwrite),
        ):
            if present:
                raise ConfigError(
                    f"{flag} has no meaning over all folds", expected="slicemill train", found=flag
                )
