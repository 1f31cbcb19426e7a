"""Scans through a network in full batches that cross the borders of scans."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from slicemill.core.evaluation.options import PredictionOptions
from slicemill.core.profiles.sequences import scan_missing_sequences
from slicemill.core.scans.channels import input_normalisation, input_slices, layout_for
from slicemill.core.scans.normalise import from_histogram, rule_of
from slicemill.core.scans.scan import Scan
from slicemill.io.run.card import Card
from slicemill.model.predicting.boxed import box_logits
from slicemill.model.predicting.cleaning import LEVELS, smooth_slices
from slicemill.model.predicting.predictor import NetworkPredictor, at_source
from slicemill.types import ScanMasks, SliceImage

_T = TypeVar("_T")

#: Source pixels that are turned into network input, or back, at once: float32 planes of 200 MB.
_PIXELS = 16_000_000
_NO_OPTIONS = PredictionOptions()


@dataclass(frozen=True)
class Prediction:
    """What a network says of a scan.

    masks: uint8 0/1, axes (S, H, W); None from a classifier. peaks: float32, axes (S,), the highest tumour
    probability of each slice, before its neighbours have a say; a classifier's own. levels: uint8, axes
    (S, H, W), the probability of each voxel in steps of 1 / `LEVELS`; None from a classifier.
    """

    masks: ScanMasks | None
    peaks: npt.NDArray[np.float32]
    levels: npt.NDArray[np.uint8] | None = None


@dataclass
class _Open(Generic[_T]):
    """A scan on its way through the network: what has come out of it so far.

    planes: uint8 masks, axes (n, H, W) each; none if neighbours have a say in them. levels: uint8, the same
    axes, probabilities in steps of 1 / `LEVELS`.
    """

    item: _T
    scan: Scan
    images: Sequence[SliceImage]
    normalisation: npt.NDArray[np.float32]
    threshold: float
    smooth: bool
    planes: list[npt.NDArray[np.uint8]] = field(default_factory=list)
    levels: list[npt.NDArray[np.uint8]] = field(default_factory=list)
    peaks: list[npt.NDArray[np.float32]] = field(default_factory=list)

    @property
    def complete(self) -> bool:
        return sum(map(len, self.peaks)) == len(self.scan.slices)

    def prediction(self) -> Prediction:
        peaks = np.concatenate([np.zeros(0, np.float32), *self.peaks])
        if not self.levels:
            return Prediction(None, peaks)
        levels = np.concatenate(self.levels)
        masks = smooth_slices(levels, self.threshold) if self.smooth else np.concatenate(self.planes)
        return Prediction(masks, peaks, levels)


@dataclass
class _Piece(Generic[_T]):
    """Slices `start` to `stop` of a scan: their part of a batch, then what the device made of them."""

    of: _Open[_T]
    start: int
    stop: int
    planes: Tensor | None = None
    levels: Tensor | None = None
    peaks: Tensor | None = None

    def inputs(self, predictor: NetworkPredictor) -> Tensor:
        images = np.stack(self.of.images[self.start : self.stop])
        return predictor.inputs(images, np.repeat(self.of.normalisation[None], len(images), axis=0))

    def take(self, logits: Tensor) -> None:
        probabilities = at_source(logits, *self.of.scan.slices[0].image.shape[:2])
        if probabilities.ndim == 1:
            self.peaks = _fetched(probabilities)
            return
        self.levels = _fetched((probabilities * LEVELS).round().to(torch.uint8))
        if not self.of.smooth:
            self.planes = _fetched((probabilities >= self.of.threshold).view(torch.uint8))
        self.peaks = _fetched(probabilities.amax(dim=(1, 2)))

    def land(self) -> None:
        if self.planes is not None:
            self.of.planes.append(self.planes.numpy())
        if self.levels is not None:
            self.of.levels.append(self.levels.numpy())
        if self.peaks is not None:
            self.of.peaks.append(self.peaks.numpy())


@dataclass
class _Flight(Generic[_T]):
    """A batch that the device works on; a GPU says by an event when its results are here."""

    pieces: list[_Piece[_T]]
    over: torch.cuda.Event | None

    def land(self) -> None:
        if self.over is not None:
            self.over.synchronize()
        for piece in self.pieces:
            piece.land()


def _fetched(result: Tensor) -> Tensor:
    return result.to("cpu", non_blocking=True)


def scan_input(scan: Scan, card: Card) -> tuple[Sequence[SliceImage], npt.NDArray[np.float32]]:
    """A scan's slices with the network's channels, and their clip and z-score, float32 (C, 4).

    As in training: the layout is the scan's own, by its missing sequences where the card leaves it open,
    and the numbers come from the histogram of all its slices, by the card's rule.
    """
    if not scan.slices:
        return [], np.zeros((0, 4), np.float32)
    layout = layout_for(card.channel_mode, scan_missing_sequences(scan))
    histogram = np.sum([source.histogram for source in scan.slices], axis=0)
    normalisation = from_histogram(histogram, rule_of(card.normalisation))
    images = input_slices([entry.image for entry in scan.slices], layout)
    return images, input_normalisation(normalisation, layout)


def predict_scans(
    scans: Iterable[tuple[_T, Scan]],
    predictor: NetworkPredictor,
    batch_size: int,
    threshold: float,
    options: PredictionOptions = _NO_OPTIONS,
) -> Iterator[tuple[_T, Scan, Prediction]]:
    """Predict scans, each given with any companion, in their order.

    Of the options flips, smooth_slices and boxes are done here; the largest component is the caller's to
    take. By boxes a scan is in batches of its own; otherwise:

    Slices meet in a batch at the network's size, whatever their own. Every batch is full, the last one filled
    up with a slice of its own: the kernels are then the same for each slice, and its numbers to the last bit,
    whichever scans it shares a batch with. While a GPU works on a batch, the next one is made and sent.
    Memory holds the scans of two batches at most.
    """
    if options.boxes:
        for item, scan in scans:
            boxed = _Open(item, scan, *scan_input(scan, predictor.card), threshold, options.smooth_slices)
            yield item, scan, _boxed(boxed, predictor, batch_size, options.flips)
        return
    open_scans: deque[_Open[_T]] = deque()
    filling: list[_Piece[_T]] = []
    flying: _Flight[_T] = _Flight([], None)
    for item, scan in scans:
        open_scan = _Open(item, scan, *scan_input(scan, predictor.card), threshold, options.smooth_slices)
        open_scans.append(open_scan)
        for piece in _cut(open_scan, batch_size - _slices(filling), batch_size):
            filling.append(piece)
            if _slices(filling) == batch_size:
                launched = _launch(filling, predictor, batch_size, options.flips)
                flying.land()
                filling, flying = [], launched
        yield from _finished(open_scans)
    flying.land()
    if filling:
        _launch(filling, predictor, batch_size, options.flips).land()
    yield from _finished(open_scans)


def _slices(pieces: Iterable[_Piece[_T]]) -> int:
    return sum(piece.stop - piece.start for piece in pieces)


def _cut(open_scan: _Open[_T], room: int, batch_size: int) -> Iterator[_Piece[_T]]:
    """A scan in pieces: the first fits into `room`, none needs much memory at its own size."""
    if not open_scan.scan.slices:
        return
    height, width = open_scan.scan.slices[0].image.shape[:2]
    limit, start = max(1, _PIXELS // (height * width)), 0
    while start < len(open_scan.scan.slices):
        stop = min(start + min(room, limit), len(open_scan.scan.slices))
        yield _Piece(open_scan, start, stop)
        room -= stop - start
        room, start = room or batch_size, stop


def _launch(
    pieces: list[_Piece[_T]], predictor: NetworkPredictor, batch_size: int, flips: bool
) -> _Flight[_T]:
    with torch.inference_mode():
        inputs = torch.cat([piece.inputs(predictor) for piece in pieces])
        missing = batch_size - len(inputs)
        if missing:
            inputs = torch.cat([inputs, inputs[-1:].expand(missing, -1, -1, -1)])
        logits = predictor.logits(inputs.contiguous(memory_format=torch.channels_last), flips)
        start = 0
        for piece in pieces:
            stop = start + piece.stop - piece.start
            piece.take(logits[start:stop])
            start = stop
    return _flight(pieces, predictor)


def _boxed(open_scan: _Open[_T], predictor: NetworkPredictor, batch_size: int, flips: bool) -> Prediction:
    """A scan by the boxes of its slices, in batches of its own."""
    if open_scan.scan.slices:
        with torch.inference_mode():
            logits = box_logits(
                open_scan.scan, open_scan.images, open_scan.normalisation, predictor, batch_size, flips
            )
            for piece in _cut(open_scan, len(logits), len(logits)):
                piece.take(logits[piece.start : piece.stop])
                _flight([piece], predictor).land()
    return open_scan.prediction()


def _flight(pieces: list[_Piece[_T]], predictor: NetworkPredictor) -> _Flight[_T]:
    if predictor.device.type != "cuda":
        return _Flight(pieces, None)
    over = torch.cuda.Event()  # type: ignore[no-untyped-call]
    over.record()
    return _Flight(pieces, over)


def _finished(open_scans: deque[_Open[_T]]) -> Iterator[tuple[_T, Scan, Prediction]]:
    while open_scans and open_scans[0].complete:
        open_scan = open_scans.popleft()
        yield open_scan.item, open_scan.scan, open_scan.prediction()
