"""Variants of the training recipe at equal CPU time, on scans of a lake, one after the other.

Each arm changes one thing of the recipe. It trains on the same scans for the same CPU seconds of one thread,
starting included, and is judged on the same other patients' scans: volumetric Dice at source resolution, at
probability 0.5, nothing cleaned. Differences to `base` are paired by scan.

    python benchmarks/arms.py --lake LAKE --out FOLDER --seconds 240 --arms base crop decoder-wide

FOLDER gets one JSON file an arm and seed, as soon as it is over; an arm that has one is not trained again.
The table at the end is of all runs in FOLDER: a scan's Dice is its mean over an arm's runs. A seed does not
repeat a run, since the clock decides how many slices it sees. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from arm_scans import LakeScan, ScanArrays, load_scans, scan_arrays
from arm_table import comparison, line
from machine import describe
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import SGD

from slicemill.config import TrainConfig
from slicemill.core.evaluation.dice import dice
from slicemill.core.training import schedule
from slicemill.core.training.plan import TrainPlan
from slicemill.core.training.schedule import InputSizes, Span
from slicemill.model.device import to_device
from slicemill.model.input import to_network_input, to_network_mask
from slicemill.model.networks import unet
from slicemill.model.networks.registry import architecture, initial_weights
from slicemill.model.networks.weights import initialise_encoder
from slicemill.model.predicting.fusion import fuse
from slicemill.model.predicting.predictor import at_source, network_logits
from slicemill.model.training.learner import Learner, make_learner
from slicemill.model.training.ranks import Rank
from slicemill.model.training.step import NetworkBatch, take_step

BATCH = 16


@dataclass(frozen=True)
class Arm:
    """What an arm changes."""

    settings: dict[str, Any] = dataclasses.field(default_factory=dict)
    first_size: int = 64
    final_size: int = 128
    crop: bool = False
    sampling: str = "slices"
    deep: bool = False
    decoder: tuple[int, int, int, int] = unet.DECODER_CHANNELS
    sgd: bool = False
    prior: float = 0.5
    warm_up: float = schedule.WARM_UP
    small_share: float = schedule.SMALL_SHARE


ARMS = {
    "base": Arm(),
    "resnet18": Arm(settings={"model": "unet-resnet18"}),
    "scratch": Arm(settings={"init_weights": "none"}),
    "crop": Arm(settings={"normalisation": "tissue"}, crop=True),
    "crop-alone": Arm(crop=True),
    "tissue": Arm(settings={"normalisation": "tissue"}),
    "channels-auto": Arm(settings={"channels": "auto"}),
    "raw": Arm(settings={"normalisation": "none"}),
    "patients": Arm(sampling="patients"),
    "tumour-third": Arm(sampling="tumour-third"),
    "deep": Arm(deep=True),
    "decoder-wide": Arm(decoder=(256, 128, 64, 32)),
    "decoder-slim": Arm(decoder=(64, 32, 32, 16)),
    "encoder-1": Arm(settings={"encoder_rate": 1.0}),
    "encoder-0.1": Arm(settings={"encoder_rate": 0.1}),
    "96-to-192": Arm(first_size=96, final_size=192),
    "128": Arm(first_size=128, final_size=128),
    # AdamW without decay is Adam.
    "adam": Arm(settings={"weight_decay": 0.0}),
    "sgd-0.02": Arm(settings={"learning_rate": 0.02, "weight_decay": 1e-4}, sgd=True),
    "sgd-0.1": Arm(settings={"learning_rate": 0.1, "weight_decay": 1e-4}, sgd=True),
    "rate-half": Arm(settings={"learning_rate": 1e-3}),
    "rate-double": Arm(settings={"learning_rate": 4e-3}),
    "as-they-are": Arm(settings={"augment": False}),
    "flips-alone": Arm(settings={"augment_strength": 0.0}),
    "augment-half": Arm(settings={"augment_strength": 0.5}),
    "augment-1.5": Arm(settings={"augment_strength": 1.5}),
    "dice-focal": Arm(settings={"loss": "dice-focal"}),
    "dice-half": Arm(settings={"dice_weight": 0.5}),
    "dice-double": Arm(settings={"dice_weight": 2.0}),
    # The head's bias says at first how rare tumour is (Lin 2017).
    "prior": Arm(prior=0.01),
    "warm-up-short": Arm(warm_up=0.05),
    "prior-warm-up-short": Arm(prior=0.01, warm_up=0.05),
    "third-small": Arm(small_share=1 / 3),
    "channels-flair25d": Arm(settings={"channels": "flair25d"}),
    "no-average": Arm(settings={"ema": 0.0}),
}


def main() -> None:
    """Train and judge the arms that have no result yet, then print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--lake", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=240.0, help="CPU seconds of training an arm")
    parser.add_argument("--judge", type=float, default=1 / 3, help="share of patients that judge")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=["base"])
    args = parser.parse_args()
    torch.set_num_threads(1)
    args.out.mkdir(parents=True, exist_ok=True)
    scans: tuple[list[LakeScan], list[LakeScan]] | None = None
    for name in args.arms:
        file = args.out / f"{name}-{args.seed}.json"
        if not file.exists():
            scans = scans or load_scans(args.lake, args.judge)
            arm = ARMS[name]
            rule, channels = (
                arm.settings.get(setting, usual)
                for setting, usual in (("normalisation", "volume"), ("channels", "rgb"))
            )
            train_scans, judge_scans = (
                [scan_arrays(scan, rule, arm.crop, channels) for scan in part] for part in scans
            )
            result = run_arm(arm, train_scans, judge_scans, args.seconds, args.seed)
            file.write_text(json.dumps({"arm": name, "seed": args.seed, **result}, indent=1))
        dice_of_scans = json.loads(file.read_text())["dice"].values()
        print(f"{name}: mean Dice {statistics.fmean(dice_of_scans):.4f}", file=sys.stderr, flush=True)
    results = [json.loads(file.read_text()) for file in sorted(args.out.glob("*.json"))]
    rows = [comparison(name, results) for name in ARMS if any(result["arm"] == name for result in results)]
    for row in rows:
        print(line(row))
    print(json.dumps({"arms": rows, **describe()}, default=dataclasses.asdict))


def run_arm(
    arm: Arm, train: Sequence[ScanArrays], judge: Sequence[ScanArrays], seconds: float, seed: int
) -> dict[str, Any]:
    """Train by an arm for some CPU seconds and give the Dice of the judging scans."""
    start = time.process_time()
    torch.manual_seed(seed)
    learner = _learner(arm, seed)
    sizes = InputSizes(arm.first_size, arm.final_size)
    slices, batches = 0, _batches(arm, train, seed)
    while (progress := (time.process_time() - start) / seconds) < 1:
        size = sizes.during(Span(progress, progress))
        learner.set_rate(progress)
        batch = _network_batch(next(batches), size, learner.augmentation)
        take_step(learner, batch)
        slices += len(batch.inputs)
    if learner.average is not None:
        learner.average.take_buffers(learner.network)
    network = learner.published.eval()
    fuse(network, torch.randn(1, 3, arm.final_size, arm.final_size))
    scores = {scan.scan_id: _judge(network, scan, arm.final_size) for scan in judge}
    return {
        "dice": scores,
        "slices": slices,
        "train_scans": len(train),
        "epochs": slices / sum(len(scan.images) for scan in train),
        "slices_per_cpu_second": slices / seconds,
        "seconds": seconds,
    }


def _learner(arm: Arm, seed: int) -> Learner:
    fixed = {"lake": "", "split": "", "out": "", "model": "unet-lite0", "seed": seed}
    config = TrainConfig(**{**fixed, **arm.settings})
    plan = TrainPlan(config, train=((),), validation=((),), normalisation={}, split_hash="", data_hash="")
    unet.DECODER_CHANNELS = arm.decoder
    schedule.WARM_UP, schedule.SMALL_SHARE = arm.warm_up, arm.small_share
    network: Any = architecture(plan.network).build()
    initialise_encoder(network, architecture(plan.network), initial_weights(config))
    with torch.no_grad():
        network.head[0].bias += math.log(arm.prior / (1 - arm.prior))
    if arm.deep:
        network = _Deep(network)
    cpu = torch.device("cpu")
    learner = make_learner(plan, Rank(0, 1, cpu), to_device(network, cpu), "fp32")
    if arm.sgd:
        groups = [
            {name: group[name] for name in ("params", "weight_decay", "peak")}
            for group in learner.optimiser.param_groups
        ]
        momentum = SGD(groups, lr=config.learning_rate, momentum=0.9, nesterov=True, fused=True)
        learner = dataclasses.replace(learner, optimiser=momentum)
    return dataclasses.replace(learner, loss=_deep_loss(learner.loss)) if arm.deep else learner


class _Deep(nn.Module):
    """A U-Net whose two stages before the last are judged too while it trains (Lee 2015)."""

    def __init__(self, network: unet.EncoderUNet) -> None:
        super().__init__()
        self.encoder, self.decoder = network.encoder, network.decoder
        self.dropout, self.head, self.encode = network.dropout, network.head, network.encode
        self.heads = nn.ModuleList([nn.Conv2d(width, 1, 1) for width in unet.DECODER_CHANNELS[1:3]])

    def forward(self, images: Tensor) -> Any:
        features = self.encode(images)
        decoded, stages = features.pop(), []
        for block in self.decoder:
            grown = functional.interpolate(decoded, scale_factor=2.0, mode="nearest")
            decoded = block(torch.cat([grown, features.pop()], dim=1))
            stages.append(decoded)
        logits = self.head(self.dropout(decoded))
        if not self.training:
            return logits
        return [logits, *(head(stage) for head, stage in zip(self.heads, stages[1:3], strict=True))]


def _deep_loss(loss: Callable[[Tensor, Tensor, Tensor], Tensor]) -> Callable[..., Tensor]:
    def summed(outputs: Sequence[Tensor], targets: Tensor, weights: Tensor) -> Tensor:
        # The finest counts most, as in nnU-Net.
        shares = (4 / 7, 1 / 7, 2 / 7)
        total = torch.zeros(())
        for share, logits in zip(shares, outputs, strict=True):
            smaller = functional.adaptive_avg_pool2d(targets, list(logits.shape[2:]))
            total = total + share * loss(logits, smaller, weights)
        return total

    return summed


Pick = tuple[ScanArrays, int]


def _batches(arm: Arm, scans: Sequence[ScanArrays], seed: int) -> Iterator[list[Pick]]:
    rng = np.random.default_rng(seed)
    everything = [(scan, place) for scan in scans for place in range(len(scan.images))]
    if arm.sampling == "slices":
        while True:
            order = rng.permutation(len(everything))
            for start in range(0, len(order) - BATCH + 1, BATCH):
                yield [everything[place] for place in order[start : start + BATCH]]
    tumours = [pick for pick in everything if pick[0].masks[pick[1]].any()]
    while True:
        picks = []
        for place in range(BATCH):
            if arm.sampling == "patients":
                scan = scans[rng.integers(len(scans))]
                picks.append((scan, int(rng.integers(len(scan.images)))))
            else:
                pool = tumours if place % 3 == 0 else everything
                picks.append(pool[rng.integers(len(pool))])
        yield picks


def _network_batch(picks: Sequence[Pick], size: int, augmentation: nn.Module | None) -> NetworkBatch:
    inputs, masks = [], []
    for scan, place in picks:
        top, left, side = scan.box
        window = (slice(place, place + 1), slice(top, top + side), slice(left, left + side))
        rule = torch.from_numpy(scan.normalisation)[None]
        inputs.append(to_network_input(_contiguous(scan.images[window]), rule, size))
        masks.append(to_network_mask(_contiguous(scan.masks[window]), size))
    images, targets = torch.cat(inputs), torch.cat(masks)
    if augmentation is not None:
        with torch.no_grad():
            images, targets = augmentation(images, targets)
    return NetworkBatch(images.contiguous(memory_format=torch.channels_last), targets, torch.ones(len(picks)))


def _contiguous(array: npt.NDArray[np.uint8]) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(array))


def _judge(network: nn.Module, scan: ScanArrays, size: int) -> float:
    top, left, side = scan.box
    rule = torch.from_numpy(np.repeat(scan.normalisation[None], 16, axis=0))
    predicted = np.zeros(scan.masks.shape, np.uint8)
    with torch.inference_mode():
        for start in range(0, len(scan.images), 16):
            part = scan.images[start : start + 16, top : top + side, left : left + side]
            inputs = to_network_input(_contiguous(part), rule[: len(part)], size)
            logits = network_logits(network, inputs, torch.device("cpu"), "fp32")
            planes = at_source(logits, *part.shape[1:3]).numpy() >= 0.5
            predicted[start : start + 16, top : top + side, left : left + side] = planes
    return float(dice(predicted, scan.masks))


if __name__ == "__main__":
    main()
