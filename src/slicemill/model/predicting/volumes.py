"""One volume in memory to its masks, without files and without Spark: the same numbers as scoring's."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from slicemill.core.evaluation.options import PredictionOptions
from slicemill.core.scans.scan import Scan, Slice
from slicemill.errors import InputError
from slicemill.io.raw.tiff import count_values
from slicemill.io.run.card import Card
from slicemill.io.run.pointer import open_model
from slicemill.io.storage.uri import file_uri
from slicemill.model.predicting import predictor
from slicemill.model.predicting.batches import scan_input
from slicemill.model.predicting.boxed import box_logits
from slicemill.model.predicting.cleaning import clean_mask
from slicemill.types import ScanImages, ScanMasks, SliceImage


@dataclass(frozen=True)
class VolumePrediction:
    """What a model says of one scan.

    `masks`: uint8, 0 or 1, axes (S, H, W), after the options; None from a classifier.
    `probabilities`: float32, axes (S, H, W), at the source's resolution, before smoothing; of a classifier
    one a slice, axes (S,). `threshold`: the probability from which a pixel or slice is tumour.
    """

    masks: ScanMasks | None
    probabilities: npt.NDArray[np.float32]
    threshold: float
    options: tuple[str, ...]


class Predictor:
    """A trained model that predicts volumes in memory."""

    def __init__(self, network: predictor.NetworkPredictor, batch_size: int | None = None) -> None:
        self._network = network
        self._batch_size = batch_size or network.usual_batch_size

    @classmethod
    def load(
        cls, run: str, device: str = "auto", batch_size: int | None = None, engine: str = "auto"
    ) -> Predictor:
        """Load the model of a training run.

        `run`: folder or s3:// URI, a pointer to one, or models:/NAME@ALIAS. `device`: auto, cpu or cuda.
        `batch_size`: slices of a forward pass; by default what suits the engine. `engine`: auto, torch or
        onnx, as --engine of `slicemill score`. Raises ModelFileError if the run's model can't be trusted or
        read, MachineError for a GPU or an engine that is missing.
        """
        return cls(predictor.NetworkPredictor.load(open_model(run).run, device, engine=engine), batch_size)

    @property
    def card(self) -> Card:
        """What the model is, and what it was trained on."""
        return self._network.card

    def predict(
        self,
        volume: ScanImages,
        threshold: float | None = None,
        options: Collection[str] | None = None,
    ) -> VolumePrediction:
        """Predict all slices of one scan.

        `volume`: uint8, axes (S, H, W, C), C in the order of `card.channels`, slices in their order; all of a
        scan, because intensities are normalised over the whole of it. `threshold` and `options` (boxes,
        flips, smooth-slices, largest-component) are the card's if None. Masks are those that
        `slicemill score` writes for the same pixels. Raises InputError for an array of another shape or type.
        """
        self._check(volume)
        threshold = self.card.threshold if threshold is None else threshold
        prediction_options = PredictionOptions.from_names(self.card.options if options is None else options)
        batches = self._batches(_scan(volume), prediction_options)
        probabilities = np.concatenate(list(batches))[: len(volume)]
        masks = None if probabilities.ndim == 1 else clean_mask(probabilities, threshold, prediction_options)
        return VolumePrediction(masks, probabilities, threshold, prediction_options.names)

    def _check(self, volume: ScanImages) -> None:
        channels = len(self.card.channels)
        if volume.dtype != np.uint8 or volume.ndim != 4 or volume.shape[3] != channels or 0 in volume.shape:
            raise InputError(
                "the volume is not one scan's slices",
                expected=f"a uint8 array with axes (slices, rows, columns, {channels})",
                found=f"{volume.dtype} with shape {volume.shape}",
                advice=f"The channels are {', '.join(self.card.channels)}.",
            )

    def _batches(self, scan: Scan, options: PredictionOptions) -> Iterator[npt.NDArray[np.float32]]:
        """Probabilities batch by batch, each full: the kernels, and so the bits, are then scoring's."""
        images, normalisation = scan_input(scan, self.card)
        if options.boxes:
            yield self._by_boxes(scan, images, normalisation, options.flips)
            return
        numbers = np.repeat(normalisation[None], self._batch_size, axis=0)
        for start in range(0, len(images), self._batch_size):
            batch = list(images[start : start + self._batch_size])
            batch += batch[-1:] * (self._batch_size - len(batch))
            yield self._network.predict(np.stack(batch), numbers, options.flips)

    def _by_boxes(
        self, scan: Scan, images: Sequence[SliceImage], normalisation: npt.NDArray[np.float32], flips: bool
    ) -> npt.NDArray[np.float32]:
        with torch.inference_mode():
            logits = box_logits(scan, images, normalisation, self._network, self._batch_size, flips)
            probabilities: npt.NDArray[np.float32] = (
                predictor.at_source(logits, *images[0].shape[:2]).cpu().numpy()
            )
        return probabilities


def _scan(volume: ScanImages) -> Scan:
    slices = (
        Slice(position, image, None, count_values(image), "absent", source_uri=file_uri("/"))
        for position, image in enumerate(volume)
    )
    return Scan("volume", "volume", tuple(slices), ())
