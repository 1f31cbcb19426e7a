"""What a network is worth on the validation part, each rank its own share of it."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from slicemill.core.evaluation.dice import dice, dice_from_counts
from slicemill.core.evaluation.options import (
    ALL_OPTIONS,
    CLEANINGS,
    FLIPS,
    LARGEST_COMPONENT,
    SMOOTH_SLICES,
    PredictionOptions,
)
from slicemill.core.evaluation.roc import Labels, roc_curve
from slicemill.core.training.plan import LabelledFile
from slicemill.core.training.records import ClassificationMetrics, Metrics, SegmentationMetrics
from slicemill.errors import TrainingError
from slicemill.model.input import to_network_mask
from slicemill.model.loading.loader import LabelledSlice
from slicemill.model.predicting.cleaning import clean_mask
from slicemill.model.predicting.predictor import at_source, network_inputs, network_logits
from slicemill.model.training.learner import Learner
from slicemill.model.training.ranks import Rank, all_reduce_sum
from slicemill.types import Floats

#: Dice that flips must add to be worth four times the work of scoring.
_FLIPS_WORTH = 0.005

#: Dice that options added out of fold on 85 scans (docs/training.md), and how many scans' word that is worth.
#: The largest component's is the mean over two sets of fold models, 0.001 and -0.0025.
_SEEN_GAIN = {FLIPS: 0.0, SMOOTH_SLICES: -0.002, LARGEST_COMPONENT: -0.001}
_SEEN_SCANS = 85

#: Dice that an option may cost on the validation scans; what costs more is not taken, whatever others say.
_MOST_COST = 0.02


@dataclass(frozen=True)
class ValidatedBatch:
    """Slices of one scan: probabilities (N, H, W), of a classifier (N), and true masks (N, H, W).

    `loss` is what training minimises, at the size of the network's input, its mean over these slices.
    """

    scan_id: str
    probabilities: npt.NDArray[np.float32]
    truth: Labels
    loss: float


def validate(learner: Learner, size: int) -> Metrics:
    """Validate the network that is to be published, its input `size` pixels a side; the same on every rank.

    Raises TrainingError if not every labelled slice came exactly once.
    """
    network = learner.published
    network.eval()
    result = _VALIDATIONS[learner.plan.settings.task](learner, network, size)
    network.train()
    return result


def dice_by_options(learner: Learner, size: int) -> dict[PredictionOptions, float]:
    """Mean validation Dice of a network that segments, by the options of scoring.

    The same on every rank; empty without a validation part.
    """
    scans = _scans(learner)
    network = learner.published.eval()
    by_scan = {(options, file.scan_id): 0.0 for options in ALL_OPTIONS for file in scans}
    for flips in (False, True):
        predicted = _predicted(learner, network, size, flips=flips)
        for scan_id, group in itertools.groupby(predicted, key=lambda batch: batch.scan_id):
            batches = list(group)
            probabilities = np.concatenate([batch.probabilities for batch in batches])
            truth = np.concatenate([batch.truth for batch in batches])
            for cleaning in CLEANINGS:
                cleaned = clean_mask(probabilities, learner.plan.settings.threshold, cleaning)
                by_scan[dataclasses.replace(cleaning, flips=flips), scan_id] = dice(cleaned, truth)
    network.train()
    total = iter(all_reduce_sum(list(by_scan.values()), learner.rank))
    return {
        options: float(np.mean(list(itertools.islice(total, len(scans))))) for options in ALL_OPTIONS if scans
    }


def best_options(by_options: Mapping[PredictionOptions, float], scans: int) -> PredictionOptions:
    """The options of scoring to expect most of, from their mean Dice on this many validation scans.

    A few scans say little: what was seen of others counts as `_SEEN_SCANS` more. But what costs more than
    `_MOST_COST` here is not taken. Flips must be worth their work. Of equals the most options.
    """
    plain = by_options[PredictionOptions()]
    allowed = [options for options, mean in by_options.items() if mean >= plain - _MOST_COST]

    def expected(options: PredictionOptions) -> tuple[float, int]:
        gain_here = scans * (by_options[options] - plain)
        prior_gain = _SEEN_SCANS * sum(_SEEN_GAIN[option] for option in options.names)
        cost = _FLIPS_WORTH if options.flips else 0.0
        return round((gain_here + prior_gain) / (scans + _SEEN_SCANS) - cost, 6), len(options.names)

    return max(allowed, key=expected)


def _dice(learner: Learner, network: nn.Module, size: int) -> Metrics:
    """Volumetric Dice of each scan at source resolution, and their mean."""
    scans = _scans(learner)
    threshold = learner.plan.settings.threshold
    counts = {file.scan_id: np.zeros(4, dtype=np.int64) for file in scans}
    loss = _MeanLoss()
    for batch in _predicted(learner, network, size):
        predicted, truth = batch.probabilities >= threshold, batch.truth
        overlap = np.count_nonzero(predicted & truth)
        counts[batch.scan_id] += [overlap, predicted.sum(), truth.sum(), len(truth)]
        loss.add(batch)
    flat = all_reduce_sum([float(count) for file in scans for count in counts[file.scan_id]], learner.rank)
    totals = {
        file.scan_id: [int(count) for count in flat[4 * at : 4 * at + 4]] for at, file in enumerate(scans)
    }
    for file in scans:
        _check_count(file, totals[file.scan_id][3])
    by_scan = {scan: dice_from_counts(*total[:3]) for scan, total in totals.items()}
    mean = float(np.mean(list(by_scan.values()))) if by_scan else None
    return SegmentationMetrics(mean, by_scan, loss.over(learner.rank))


def _classes(learner: Learner, network: nn.Module, size: int) -> Metrics:
    """Accuracy over slices and the area under the ROC curve, None where only one class occurs."""
    scans = _scans(learner)
    mine: dict[str, tuple[list[float], list[float]]] = {file.scan_id: ([], []) for file in scans}
    loss = _MeanLoss()
    for batch in _predicted(learner, network, size):
        mine[batch.scan_id][0].extend(batch.probabilities.tolist())
        mine[batch.scan_id][1].extend(batch.truth.any(axis=(1, 2)).astype(float).tolist())
        loss.add(batch)
    probability, truth = _gathered(scans, mine, learner.rank)
    mean_loss = loss.over(learner.rank)
    if not truth.size:
        return ClassificationMetrics()
    accuracy = float(np.mean((probability >= learner.plan.settings.threshold) == truth))
    auroc = roc_curve(truth, probability)[2] if 0 < truth.sum() < truth.size else None
    return ClassificationMetrics(accuracy, auroc, mean_loss)


class _MeanLoss:
    """The mean loss of a slice, over all ranks' batches."""

    def __init__(self) -> None:
        self._sum, self._slices = 0.0, 0

    def add(self, batch: ValidatedBatch) -> None:
        self._sum += batch.loss * len(batch.truth)
        self._slices += len(batch.truth)

    def over(self, rank: Rank) -> float | None:
        """The mean over all ranks, the same on each; None without slices."""
        total, slices = all_reduce_sum([self._sum, float(self._slices)], rank)
        return total / slices if slices else None


_VALIDATIONS: dict[str, Callable[[Learner, nn.Module, int], Metrics]] = {
    "segment": _dice,
    "classify": _classes,
}


def _gathered(
    scans: list[LabelledFile], mine: dict[str, tuple[list[float], list[float]]], rank: Rank
) -> tuple[Floats, Labels]:
    """All ranks' probabilities and labels of the slices: each rank fills its scans' places, the rest is 0."""
    flat: list[float] = []
    for file in scans:
        probability, truth = mine[file.scan_id]
        read = len(truth)
        if read not in (0, file.labelled_slices):
            _check_count(file, read)
        padding = [0.0] * (file.labelled_slices - read)
        flat += [float(read), *probability, *padding, *truth, *padding]
    total, at = all_reduce_sum(flat, rank), 0
    probabilities, truths = [], []
    for file in scans:
        count = file.labelled_slices
        _check_count(file, int(total[at]))
        probabilities += total[at + 1 : at + 1 + count]
        truths += total[at + 1 + count : at + 1 + 2 * count]
        at += 1 + 2 * count
    return np.asarray(probabilities), np.asarray(truths, dtype=bool)


def _scans(learner: Learner) -> list[LabelledFile]:
    return sorted(file for share in learner.plan.validation for file in share)


def _check_count(file: LabelledFile, count: int) -> None:
    if count != file.labelled_slices:
        raise TrainingError(
            f"validation scan {file.scan_id} came up wrong",
            expected=f"{file.labelled_slices} labelled slices",
            found=count,
        )


def _predicted(
    learner: Learner, network: nn.Module, size: int, flips: bool = False
) -> Iterator[ValidatedBatch]:
    """Each batch of this rank's share, scan by scan."""
    plan = learner.plan
    share = learner.cache.read(plan.validation[learner.rank.index])
    for _, slices in itertools.groupby(share, key=lambda entry: entry.scan_id):
        while batch := list(itertools.islice(slices, plan.settings.batch_size)):
            for same_size in _by_shape(batch):
                yield _predict(learner, network, same_size, size, flips)


def _predict(
    learner: Learner, network: nn.Module, slices: Sequence[LabelledSlice], size: int, flips: bool
) -> ValidatedBatch:
    device, scan_id = learner.rank.device, slices[0].scan_id
    images = np.stack([entry.image for entry in slices])
    masks = np.stack([entry.mask for entry in slices])
    normalisation = np.asarray(learner.plan.normalisation[scan_id], dtype=np.float32)
    with torch.inference_mode():
        inputs = network_inputs(images, np.repeat(normalisation[None], len(slices), axis=0), size, device)
        logits = network_logits(network, inputs, device, learner.execution.precision, flips)
        loss = learner.loss(logits, _targets(learner, masks, size), torch.ones(len(slices), device=device))
        probabilities = at_source(logits, *images.shape[1:3]).cpu().numpy()
    return ValidatedBatch(scan_id, probabilities, masks.astype(bool), float(loss))


def _targets(learner: Learner, masks: npt.NDArray[np.uint8], size: int) -> Tensor:
    """What training's loss compares logits with; axes (N, 1, size, size), of a classifier (N, 1)."""
    if learner.plan.settings.task == "segment":
        return to_network_mask(torch.tensor(masks, device=learner.rank.device), size)
    return torch.tensor(
        np.asarray(masks.any(axis=(1, 2)))[:, None], dtype=torch.float32, device=learner.rank.device
    )


def _by_shape(batch: list[LabelledSlice]) -> list[list[LabelledSlice]]:
    shapes = sorted({entry.image.shape for entry in batch})
    return [[entry for entry in batch if entry.image.shape == shape] for shape in shapes]
