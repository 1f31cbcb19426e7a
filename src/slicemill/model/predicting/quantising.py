"""What a network needs to become one in int8, and what that costs: calibration, and Dice before and after."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from slicemill.core.evaluation.options import PredictionOptions
from slicemill.core.scans.scan import Scan
from slicemill.io.run.card import Card
from slicemill.model.predicting.batches import scan_input
from slicemill.model.predicting.predictor import NetworkPredictor, network_inputs
from slicemill.model.predicting.scoring import predictions, scan_output
from slicemill.model.predicting.settings import ScoreSettings
from slicemill.types import Uri

log = logging.getLogger(__name__)

#: Slices that calibrate, over all scans.
CALIBRATION_SLICES = 64

#: Scans between two lines of the log.
_LOGGED = 10

#: Reads a scan, which is not kept.
ReadScan = Callable[[], Scan]


@dataclass(frozen=True)
class ScanLoss:
    """A scan's Dice in fp32 and in int8."""

    scan_id: str
    dice: float
    dice_int8: float

    @property
    def loss(self) -> float:
        """What int8 costs; below zero where it gains."""
        return self.dice - self.dice_int8


@dataclass
class Speed:
    """Processor time that a network took, and for how many slices."""

    seconds: float = 0.0
    slices: int = 0

    @property
    def rate(self) -> float:
        """Slices a CPU second."""
        return round(self.slices / self.seconds, 1) if self.seconds else 0.0


def calibration_inputs(scans: Sequence[ReadScan], card: Card) -> Iterator[Tensor]:
    """Some slices of every scan, evenly spaced, as network inputs with axes (1, C, H, W)."""
    each = max(1, -(-CALIBRATION_SLICES // len(scans)))
    for read in scans[:CALIBRATION_SLICES]:
        images, normalisation = scan_input(read(), card)
        for place in np.unique(np.linspace(0, len(images) - 1, each).round().astype(int)).tolist():
            yield network_inputs(
                images[place][None], normalisation[None], card.input_size, torch.device("cpu")
            )


def compare(
    run: Uri, scans: Sequence[ReadScan], fp32: NetworkPredictor, int8: NetworkPredictor
) -> tuple[list[ScanLoss], dict[str, float]]:
    """Dice of every scan that has one, by both networks as `score` would give it, and slices a CPU second."""
    speeds = {"fp32": Speed(), "int8": Speed()}
    losses = []
    for count, read in enumerate(scans, 1):
        scan = read()
        dice = _dice(run, scan, fp32, speeds["fp32"])
        dice_int8 = _dice(run, scan, int8, speeds["int8"])
        if dice is not None and dice_int8 is not None:
            losses.append(ScanLoss(scan.scan_id, dice, dice_int8))
        if count % _LOGGED == 0 or count == len(scans):
            log.info("%d of %d scans compared", count, len(scans))
    return losses, {name: speed.rate for name, speed in speeds.items()}


def _dice(run: Uri, scan: Scan, predictor: NetworkPredictor, speed: Speed) -> float | None:
    card = predictor.card
    settings = ScoreSettings(
        model=run,
        model_id=card.model_id,
        threshold=card.threshold,
        options=PredictionOptions.from_names(card.options),
        batch_size=predictor.usual_batch_size,
    )
    start = time.thread_time()
    ((_, _, prediction),) = predictions([(None, scan)], predictor, settings)
    speed.seconds += time.thread_time() - start
    speed.slices += len(scan.slices)
    return scan_output(scan, prediction, card, settings, predictor.engine.facts).score.dice
