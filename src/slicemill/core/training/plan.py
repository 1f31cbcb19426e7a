"""The plan of a training run: which rank reads which scans, for how many steps.

It is made once, in the driver.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from slicemill.config import TrainConfig
from slicemill.core.balance import balanced
from slicemill.core.scans.channels import Layout
from slicemill.core.training.sampling import EVERY_SLICE, Sampling
from slicemill.core.training.schedule import InputSizes
from slicemill.types import Uri

#: Channels of a slice, in order.
CHANNELS = ("pre-contrast", "FLAIR", "post-contrast")


@dataclass(frozen=True, order=True)
class LabelledFile:
    """A scan's Parquet file, and how its rows become training slices."""

    scan_id: str
    uri: Uri
    labelled_slices: int
    """Rows with a usable mask."""
    layout: Layout = "rgb"
    """Input channels."""
    tumour_slices: int = 0
    """Those of the labelled rows whose mask is not empty."""
    sampling: Sampling = EVERY_SLICE
    """How often its slices come in an epoch."""
    slices: tuple[int, ...] | None = None
    """Slice indices that count, for a split that leaks on purpose; all of them if None."""

    @property
    def draws(self) -> int:
        """Slices that the file gives in an epoch, repeats counted."""
        return self.sampling.draws(self.labelled_slices, self.tumour_slices)


Share = tuple[LabelledFile, ...]


@dataclass(frozen=True)
class TrainPlan:
    """Everything a rank needs to know; the same for all ranks."""

    settings: TrainConfig
    """The run's settings, with canonical URIs and the network's name."""
    train: tuple[Share, ...]
    """Files that each rank trains on."""
    validation: tuple[Share, ...]
    """Files that each rank validates on; empty shares without a validation part."""
    normalisation: Mapping[str, Sequence[Sequence[float]]]
    """Of each scan: low, high, mean, scale of each input channel."""
    split_hash: str
    """Hash of the split."""
    data_hash: str
    """Hash of the content of the files above."""
    training_profile: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """What the training scans look like, for the model card; see `slicemill.core.profiles.drift`."""
    patients: Mapping[str, Sequence[str]] = dataclasses.field(default_factory=dict)
    """Hashes of the patients of train and val, for the model card; see `slicemill.core.evaluation.seen`."""
    threads: int = 1
    """CPU threads of each rank."""
    floors: tuple[float | None, ...] = ()
    """Of a trial: score that the best of epochs 1 to K must reach to go on; None asks nothing."""
    parent: str | None = None
    """MLflow run that this run is a child of."""
    gpus: str | None = None
    """GPUs that every rank sees, as CUDA_VISIBLE_DEVICES; "" for all, None for those that Spark gave it."""
    lock_token: str | None = None
    """Token of the lock on the run's folder, without which ranks write nothing; None where none is held."""

    @property
    def network(self) -> str:
        """The network's name in the registry."""
        return self.settings.model or ""

    @property
    def ranks(self) -> int:
        """Processes that train together."""
        return len(self.train)

    @property
    def batch_per_rank(self) -> int:
        """Slices per step of one rank."""
        return self.settings.batch_size // self.ranks

    @property
    def steps_per_epoch(self) -> int:
        """Steps of every rank in every epoch."""
        return steps_per_epoch(self.train, self.batch_per_rank)

    def to_json(self) -> str:
        """The plan as JSON; `from_json` gives it back exactly."""
        return json.dumps(dataclasses.asdict(self), sort_keys=True, allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> TrainPlan:
        """The plan that `to_json` wrote."""
        value = json.loads(text)
        value["settings"] = settings_from_json(value["settings"])
        for part in ("train", "validation"):
            value[part] = tuple(tuple(_file(file) for file in share) for share in value[part])
        value["floors"] = tuple(value.get("floors", ()))
        return cls(**value)


def settings_from_json(value: Mapping[str, Any]) -> TrainConfig:
    """Settings that were stored; those of another release that this one does not know are left out."""
    names = {field.name for field in dataclasses.fields(TrainConfig)}
    return TrainConfig(**{name: setting for name, setting in value.items() if name in names})


@dataclass(frozen=True)
class Execution:
    """What settings leave open, as it is settled when a run starts on its machine."""

    sizes: InputSizes
    precision: str
    """fp32, bf16 or fp16."""
    device: str
    """cpu or cuda."""

    def sized(self, settings: TrainConfig) -> dict[str, Any]:
        """Settings with the sizes in place, as a checkpoint has them."""
        sizes = {"first_size": self.sizes.first, "image_size": self.sizes.final}
        return dataclasses.asdict(settings) | sizes

    def settled(self, settings: TrainConfig) -> dict[str, Any]:
        """Settings with all of these in place, as the model card has them."""
        return self.sized(settings) | {"precision": self.precision, "device": self.device}


def _file(value: Mapping[str, Any]) -> LabelledFile:
    fields = dict(value)
    slices = fields.pop("slices", None)
    # Earlier releases had but this one kind.
    sampling = fields.pop("sampling", None) or {"oversample": fields.pop("oversample", 1)}
    return LabelledFile(
        **fields, slices=None if slices is None else tuple(slices), sampling=Sampling(**sampling)
    )


def balance(files: Iterable[LabelledFile], ranks: int) -> tuple[Share, ...]:
    """Share files among ranks so that their slices of an epoch are about equal; see `balanced`.

    Every file with a labelled slice is in exactly one share, and the result does not depend on the order of
    `files`. Shares are empty where there are fewer files than ranks.
    """
    sampled = sorted((file for file in files if file.draws), key=lambda file: (-file.draws, file))
    return tuple(map(tuple, balanced(sampled, lambda file: file.draws, ranks)))


def labelled_slices(share: Iterable[LabelledFile]) -> int:
    """Labelled slices of a share."""
    return sum(file.labelled_slices for file in share)


def draws(share: Iterable[LabelledFile]) -> int:
    """Slices of a share in an epoch, repeats counted."""
    return sum(file.draws for file in share)


def steps_per_epoch(shares: Sequence[Share], batch_per_rank: int) -> int:
    """Steps that let the rank with the most slices see each of them as often as it is due.

    Every rank makes as many: one that has read all its slices repeats some with weight 0.
    """
    return -(-max(draws(share) for share in shares) // batch_per_rank)
