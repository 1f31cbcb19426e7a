"""What a rank trains with: network, its average, optimiser, scaler and augmentation, made from the plan."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

from torch import nn
from torch.amp.grad_scaler import GradScaler
from torch.nn.parallel import DistributedDataParallel
from torch.optim import AdamW, Optimizer

from slicemill.config import TrainConfig
from slicemill.core.training.plan import Execution, TrainPlan
from slicemill.core.training.schedule import SCHEDULES, InputSizes
from slicemill.model.depthwise import keep_depthwise_in_fp32
from slicemill.model.loading.augment import Augmentation
from slicemill.model.loading.device_slices import DeviceSlices
from slicemill.model.loading.loader import SliceCache
from slicemill.model.networks.registry import architecture, encoder_rate
from slicemill.model.training.average import FlatBuffers, WeightAverage
from slicemill.model.training.losses import Loss, cross_entropy, segmentation_loss
from slicemill.model.training.ranks import Rank

#: Largest size of the network's input where none is asked for, in pixels, by the kind of device.
IMAGE_SIZES = {"cpu": 192, "cuda": 256}

#: First sizes below this show a tumour of ordinary size in a few pixels.
_LEAST_FIRST = 64


@dataclass(frozen=True)
class Learner:
    """What a rank trains with.

    `network` is the bare one; `stepped` is it, or its DDP wrapper; `buffers` are its own, in one piece;
    `average` is the moving average of its weights, None without --ema; `slices` are those of the rank's share
    on its device, None unless --cache gpu asks for them and they fit.
    """

    plan: TrainPlan
    rank: Rank
    execution: Execution
    network: nn.Module
    stepped: nn.Module
    buffers: FlatBuffers
    average: WeightAverage | None
    optimiser: Optimizer
    scaler: GradScaler
    loss: Loss
    augmentation: nn.Module | None
    cache: SliceCache
    slices: DeviceSlices | None

    @property
    def published(self) -> nn.Module:
        """The network that is validated and kept."""
        if self.average is None:
            return self.network
        return self.average.module

    def set_rate(self, progress: float) -> None:
        """Set the learning rate for this much of the run."""
        factor = SCHEDULES[self.plan.settings.schedule](progress)
        for group in self.optimiser.param_groups:
            group["lr"] = group["peak"] * factor

    @property
    def rate(self) -> float:
        """The learning rate in force, of what is not an encoder with its own."""
        return float(self.optimiser.param_groups[-1]["lr"])

    def gradient_exchange(self, last_part: bool) -> AbstractContextManager[Any]:
        """Context of a part of a step: ranks exchange gradients in its last only."""
        if not last_part and isinstance(self.stepped, DistributedDataParallel):
            context: AbstractContextManager[Any] = self.stepped.no_sync()
            return context
        return nullcontext()


def make_learner(plan: TrainPlan, rank: Rank, network: nn.Module, precision: str) -> Learner:
    """Optimiser, average, augmentation and DDP around a network that is on its device."""
    settings = plan.settings
    if rank.count > 1 and rank.device.type == "cuda":
        network = nn.SyncBatchNorm.convert_sync_batchnorm(network)  # type: ignore[no-untyped-call]
    if rank.device.type == "cpu" and precision == "bf16":
        keep_depthwise_in_fp32(network)
    encoder = architecture(plan.network, settings.task).encoder
    if settings.freeze_encoder and encoder:
        _freeze(network.get_submodule(encoder))
    stepped: nn.Module = network
    if rank.count > 1:
        # Running statistics are averaged once an epoch instead of copied from rank 0 at each step.
        stepped = DistributedDataParallel(network, broadcast_buffers=False, gradient_as_bucket_view=True)
    return Learner(
        plan=plan,
        rank=rank,
        execution=Execution(
            input_sizes(settings, IMAGE_SIZES[rank.device.type]), precision, rank.device.type
        ),
        network=network,
        stepped=stepped,
        buffers=FlatBuffers(network),
        average=WeightAverage(network, settings.ema) if settings.ema else None,
        optimiser=AdamW(_parameter_groups(network, encoder, settings), lr=settings.learning_rate, fused=True),
        scaler=GradScaler(rank.device.type, enabled=precision == "fp16"),
        loss=segmentation_loss(settings.loss, settings.dice_weight)
        if settings.task == "segment"
        else cross_entropy,
        augmentation=Augmentation(settings.augment_strength) if settings.augment else None,
        cache=SliceCache.planned(plan),
        slices=_slices_on_device(plan, rank) if settings.cache == "gpu" else None,
    )


def _slices_on_device(plan: TrainPlan, rank: Rank) -> DeviceSlices | None:
    return DeviceSlices.load(plan.train[rank.index], plan.normalisation, rank.device, rank.count)


def input_sizes(settings: TrainConfig, largest: int) -> InputSizes:
    """The sizes that were asked for; `largest` in the end, and half of it at first, where none was."""
    final = settings.image_size or largest
    return InputSizes(settings.first_size or settings.image_size or max(_LEAST_FIRST, largest // 2), final)


def _freeze(encoder: nn.Module) -> None:
    for module in encoder.modules():
        if not isinstance(module, nn.BatchNorm2d):
            for parameter in module.parameters(recurse=False):
                parameter.requires_grad_(False)


def _parameter_groups(
    network: nn.Module, encoder: str | None, settings: TrainConfig
) -> list[dict[str, object]]:
    """Encoder with and without decay, then the rest with and without; empty groups are left out.

    Decay pulls weights to zero; norms and biases have no reason to be there.
    """
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for name, parameter in network.named_parameters():
        if parameter.requires_grad:
            in_encoder = encoder is not None and name.startswith(f"{encoder}.")
            groups.setdefault((not in_encoder, parameter.ndim <= 1), []).append(parameter)
    return [
        {
            "params": parameters,
            "weight_decay": 0.0 if flat else settings.weight_decay,
            "peak": settings.learning_rate * (1.0 if own_rate else encoder_rate(settings)),
        }
        for (own_rate, flat), parameters in sorted(groups.items())
    ]
