"""One volume in memory to its masks, without files and without Spark: the same numbers as scoring's."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from slicemill.core.evaluation.options import PredictionOptions
from slicemill.core.scans.scan import Scan, Slice
from slicemill.errors import InputError
from slicemill.io.raw.tiff import count_values
from slicemill.io.run.card import Card
from slicemill.io.run.pointer import open_model
from slicemill.io.storage.uri import file_uri
from slicemill.model.predicting import predictor
from slicemill.model.predicting.batches import scan_input
from slicemill.model.predicting.cleaning import clean_mask
from slicemill.model.predicting.settings import BATCH_SIZES
from slicemill.types import ScanImages, ScanMasks


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
        self._batch_size = batch_size or BATCH_SIZES[network.device.type]

    @classmethod
    def load(cls, run: str, device: str = "auto", batch_size: int | None = None) -> Predictor:
        """Load the model of a training run.

        `run`: folder or s3:// URI, a pointer to one, or models:/NAME@ALIAS. `device`: auto, cpu or cuda.
        `batch_size`: slices of a forward pass, 8 on a CPU and 64 on a GPU if None. Raises ModelFileError if
        the run's model can't be trusted or read, MachineError for a GPU that does not exist.
        """
        return cls(predictor.NetworkPredictor.load(open_model(run).run, device), batch_size)

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
        scan, because intensities are normalised over the whole of it. `threshold` and `options` (flips,
        smooth-slices, largest-component) are the card's if None. Masks are those that `slicemill score`
        writes for the same pixels. Raises InputError for an array of another shape or type.
        """
        self._check(volume)
        threshold = self.card.threshold if threshold is None else threshold
        chosen = PredictionOptions.from_names(self.card.options if options is None else options)
        batches = self._batches(_scan(volume), flips=chosen.flips)
        probabilities = np.concatenate(list(batches))[: len(volume)]
        masks = None if probabilities.ndim == 1 else clean_mask(probabilities, threshold, chosen)
        return VolumePrediction(masks, probabilities, threshold, chosen.names)

    def _check(self, volume: ScanImages) -> None:
        channels = len(self.card.channels)
        if volume.dtype != np.uint8 or volume.ndim != 4 or volume.shape[3] != channels or 0 in volume.shape:
            raise InputError(
                "the volume is not one scan's slices",
                expected=f"a uint8 array with axes (slices, rows, columns, {channels})",
                found=f"{volume.dtype} with shape {volume.shape}",
                advice=f"The channels are {', '.join(self.card.channels)}.",
            )

    def _batches(self, scan: Scan, flips: bool) -> Iterator[npt.NDArray[np.float32]]:
        """Probabilities batch by batch, each full: the kernels, and so the bits, are then scoring's."""
        images, normalisation = scan_input(scan, self.card)
        numbers = np.repeat(normalisation[None], self._batch_size, axis=0)
        for start in range(0, len(images), self._batch_size):
            batch = list(images[start : start + self._batch_size])
            batch += batch[-1:] * (self._batch_size - len(batch))
            network = self._network
            yield predictor.probabilities(
                network.network,
                np.stack(batch),
                numbers,
                self.card.input_size,
                network.device,
                network.precision,
                flips,
            )


def _scan(volume: ScanImages) -> Scan:
    slices = (
        Slice(position, image, None, count_values(image), "absent", source_uri=file_uri("/"))
        for position, image in enumerate(volume)
    )
    return Scan("volume", "volume", tuple(slices), ())
