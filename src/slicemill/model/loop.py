"""The steps of one training epoch."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import LRScheduler, OneCycleLR

from slicemill.core.plan import TrainPlan
from slicemill.errors import TrainingError
from slicemill.model.augment import Augmentation
from slicemill.model.device import autocast
from slicemill.model.input import to_network_input, to_network_mask
from slicemill.model.loader import Batch, EpochLoader, SliceCache
from slicemill.model.losses import segmentation_loss
from slicemill.model.ranks import Rank, summed

#: Norm that a step's gradient is cut down to.
GRADIENT_NORM = 1.0

#: Steps below which torch's one-cycle schedule divides by zero; a shorter run ends on the way.
_SHORTEST_CYCLE = 10

#: Share of the steps in which the one-cycle schedule warms up.
WARM_UP = 0.2


@dataclass(frozen=True)
class Learner:
    """What a rank trains with. `network` is the bare one; `stepped` is it, or its DDP wrapper."""

    plan: TrainPlan
    rank: Rank
    precision: str
    network: nn.Module
    stepped: nn.Module
    optimiser: Optimizer
    schedule: LRScheduler
    augmentation: nn.Module | None
    cache: SliceCache


@dataclass(frozen=True)
class EpochResult:
    """Over all ranks: mean loss of a step, slices read, and seconds on this rank."""

    loss: float
    slices: int
    seconds: float
    learning_rate: float


def make_learner(plan: TrainPlan, rank: Rank, network: nn.Module, precision: str) -> Learner:
    """Optimiser, one-cycle schedule, augmentation and DDP around a network that is on its device."""
    settings = plan.settings
    stepped: nn.Module = network
    if rank.count > 1:
        if rank.device.type == "cuda":
            network = nn.SyncBatchNorm.convert_sync_batchnorm(network)  # type: ignore[no-untyped-call]
        # Running statistics are averaged once an epoch instead of copied from rank 0 at each step.
        stepped = DistributedDataParallel(network, broadcast_buffers=False, gradient_as_bucket_view=True)
    optimiser = AdamW(
        _parameter_groups(network, settings["weight_decay"]), lr=settings["learning_rate"], fused=True
    )
    steps = max(settings["epochs"] * plan.steps_per_epoch, _SHORTEST_CYCLE)
    schedule = OneCycleLR(optimiser, settings["learning_rate"], total_steps=steps, pct_start=WARM_UP)
    augmentation = Augmentation().to(rank.device) if settings["augment"] else None
    return Learner(
        plan, rank, precision, network, stepped, optimiser, schedule, augmentation, SliceCache.planned(plan)
    )


def _parameter_groups(network: nn.Module, weight_decay: float) -> list[dict[str, object]]:
    # Decay pulls weights to zero; norms and biases have no reason to be there.
    parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
    return [
        {
            "params": [parameter for parameter in parameters if parameter.ndim > 1],
            "weight_decay": weight_decay,
        },
        {"params": [parameter for parameter in parameters if parameter.ndim <= 1], "weight_decay": 0.0},
    ]


def train_epoch(learner: Learner, epoch: int) -> EpochResult:
    """One pass over the rank's share; every random draw follows from seed, epoch and rank.

    Raises TrainingError if a loss or gradient is not finite, or if the ranks together did not read each
    labelled slice exactly once.
    """
    plan, rank = learner.plan, learner.rank
    seed = int(plan.settings["seed"])
    torch.manual_seed(_epoch_seed(seed, epoch, rank.index))
    loader = EpochLoader(
        plan.train[rank.index],
        batch_size=plan.batch_per_rank,
        steps=plan.steps_per_epoch,
        seed=seed,
        epoch=epoch,
        rank=rank.index,
        cache=learner.cache,
    )
    learning_rate = learner.optimiser.param_groups[0]["lr"]
    started = time.perf_counter()
    losses = [_step(learner, batch, epoch, step) for step, batch in enumerate(loader)]
    seconds = time.perf_counter() - started
    slices = _check_count(loader, rank, epoch)
    loss = summed([sum(losses) / len(losses)], rank)[0] / rank.count
    return EpochResult(loss, slices, seconds, learning_rate)


def _epoch_seed(seed: int, epoch: int, rank: int) -> int:
    return int(np.random.SeedSequence((seed, epoch, rank)).generate_state(1)[0])


def _step(learner: Learner, batch: Batch, epoch: int, step: int) -> float:
    inputs, masks, weights = network_batch(batch, learner.plan, learner.rank.device)
    if learner.augmentation is not None:
        with torch.no_grad():
            inputs, masks = learner.augmentation(inputs, masks)
    learner.optimiser.zero_grad(set_to_none=True)
    with autocast(learner.rank.device, learner.precision):
        logits = learner.stepped(inputs)
    loss = segmentation_loss(logits, masks, weights)
    torch.autograd.backward(loss)
    norm = nn.utils.clip_grad_norm_(learner.network.parameters(), GRADIENT_NORM)
    value, length = loss.item(), norm.item()
    if not np.isfinite(value) or not np.isfinite(length):
        raise TrainingError(
            f"training went astray in epoch {epoch + 1}, step {step + 1}",
            expected="a finite loss and gradient",
            found=f"loss {value}, gradient norm {length}",
            advice="Lower --learning-rate, or use --precision fp32.",
        )
    learner.optimiser.step()
    learner.schedule.step()
    return value


def network_batch(batch: Batch, plan: TrainPlan, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Network input, masks and weights of a batch on the device, float32.

    Axes (N, C, S, S), (N, 1, S, S) and (N), in the order of the batch's slices, whose sizes may differ.
    """
    size = int(plan.settings["image_size"])
    parts = [_same_shape(batch, places, plan, device, size) for places in _places_by_shape(batch)]
    order = torch.argsort(torch.cat([part[2] for part in parts]))
    inputs, masks = (torch.cat([part[at] for part in parts]) for at in (0, 1))
    if len(parts) > 1:
        inputs, masks = inputs[order], masks[order]
    weights = torch.from_numpy(batch.weights).to(device)
    return inputs.contiguous(memory_format=torch.channels_last), masks, weights


def _places_by_shape(batch: Batch) -> Iterator[list[int]]:
    shapes = [entry.image.shape for entry in batch.slices]
    for shape in sorted(set(shapes)):
        yield [place for place, found in enumerate(shapes) if found == shape]


def _same_shape(
    batch: Batch, places: list[int], plan: TrainPlan, device: torch.device, size: int
) -> tuple[Tensor, Tensor, Tensor]:
    chosen = [batch.slices[place] for place in places]
    images = torch.from_numpy(np.stack([entry.image for entry in chosen])).to(device)
    masks = torch.from_numpy(np.stack([entry.mask for entry in chosen])).to(device)
    scales = torch.tensor(
        [plan.normalisation[entry.scan_id] for entry in chosen], dtype=torch.float32, device=device
    )
    return (
        to_network_input(images, scales, size),
        to_network_mask(masks, size),
        torch.tensor(places, device=device),
    )


def _check_count(loader: EpochLoader, rank: Rank, epoch: int) -> int:
    """Slices that all ranks read; the check is the same on every rank, so that none is left waiting."""
    count = loader.count
    read, expected, wrong, repeated = (
        round(total)
        for total in summed([count.read, count.expected, count.wrong_scans, count.repeated], rank)
    )
    if read != expected or wrong or repeated:
        raise TrainingError(
            f"epoch {epoch + 1} did not read each labelled slice once",
            expected=f"{expected} slices, as the lake's scans table says",
            found=f"{read} slices, {repeated} of them again, {wrong} scans with a wrong count",
            advice="Run ingest again: slices and scans tables do not agree.",
        )
    return read
