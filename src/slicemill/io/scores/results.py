"""A score folder as its readers see it: the scored scans of one model, and the predicted slices of each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from slicemill.core.evaluation.rows import ScanScore, ScoredSlice
from slicemill.core.scans.scan import Scan
from slicemill.io import storage
from slicemill.io.nifti import read_planes
from slicemill.io.parquet import ONE_FILE
from slicemill.io.places import Scores
from slicemill.io.scores.extras import PROBABILITY
from slicemill.io.scores.folder import refuse_leaky_scores
from slicemill.io.scores.tables import patient_rows, read_entry, slice_rows
from slicemill.io.storage.uri import display, join
from slicemill.types import SliceMask, Uri

_NUMBERS = ("slice_index", "tumour_pixels", "true_pixels", "max_probability", "dice")
_MASKS = ("slice_index", "height", "width", "mask", "tumour_pixels", "dice", "max_probability")


@dataclass(frozen=True)
class SliceScore:
    """One scored slice; areas in pixels.

    `predicted` is None from a classifier, `true` without truth. `positive` says that a tumour was predicted:
    the mask is not empty, or a classifier's probability reaches its threshold.
    """

    patient_id: str
    scan_id: str
    slice_index: int
    predicted: int | None
    true: int | None
    max_probability: float
    dice: float | None
    positive: bool


@dataclass(frozen=True)
class PredictedSlice:
    """One predicted slice: mask, 0/1 uint8 (H, W), area in pixels, Dice, highest tumour probability.

    Mask and area are None from a classifier, Dice is None without truth.
    """

    mask: SliceMask | None
    area: int | None
    dice: float | None
    probability: float


@dataclass(frozen=True)
class PredictedScan:
    """A scan, and its predicted slices by slice number.

    `levels`: uint8 (H, W), by slice number, tumour probabilities in steps of 1/255 as the network gave them,
    before smoothing and the choice of components; empty where scoring did not write them.
    """

    scan: Scan
    predicted: Mapping[int, PredictedSlice] = field(default_factory=dict)
    levels: Mapping[int, npt.NDArray[np.uint8]] = field(default_factory=dict)

    @classmethod
    def of(cls, scan: Scan | PredictedScan) -> PredictedScan:
        """A scan without predictions as one that has none; any other as it is."""
        return scan if isinstance(scan, PredictedScan) else cls(scan)


@dataclass(frozen=True)
class ScoreTables:
    """A score folder's rows of one model, a scan each, and how many rows other models have there."""

    home: Uri
    model_id: str
    scans: tuple[ScanScore, ...]
    other_models: Mapping[str, int] = field(default_factory=dict)

    @property
    def places(self) -> Scores:
        """Where the folder's tables lie, for engines that read them by themselves."""
        return Scores(self.home)

    def slices(self, scans: Sequence[ScanScore]) -> list[SliceScore]:
        """The numbers of every scored slice of scans, given by their rows."""
        by_scan = storage.each(self._slice_scores, scans, self.home)
        return [score for scores in by_scan for score in scores]

    def _slice_scores(self, row: ScanScore) -> list[SliceScore]:
        return [_slice_score(row, stored) for stored in slice_rows(self.home, row, _NUMBERS)]

    def predictions(self, row: ScanScore) -> dict[int, PredictedSlice]:
        """The predicted masks of a scan, given by its row, by slice number."""
        return {stored.slice_index: _predicted(stored) for stored in slice_rows(self.home, row, _MASKS)}

    def levels(self, row: ScanScore) -> dict[int, npt.NDArray[np.uint8]]:
        """Probabilities of a scan's slices, as `PredictedScan` has them; empty if none were written.

        Raises InputError for a file that is not what scoring wrote.
        """
        entry = join(self.places.manifest, row.manifest)
        if not row.manifest or not storage.exists(entry):
            return {}
        name = next((name for name in read_entry(entry).outputs if name.endswith(PROBABILITY)), None)
        if name is None:
            return {}
        numbers = sorted(stored.slice_index for stored in slice_rows(self.home, row, ("slice_index",)))
        uri = join(self.home, name)
        return read_planes(storage.read_bytes(uri), numbers, display(uri))


def read_scores(home: Uri, model_id: str | None = None, *, leaky: bool = False) -> ScoreTables:
    """Read a score folder's rows of the model `model_id`, or of the one that scored last.

    Raises InputError if there is no such folder, ConfigError for scores by a model of a split that leaks on
    purpose, unless `leaky`.
    """
    if not leaky:
        refuse_leaky_scores(home)
    uri = join(Scores(home).patients, ONE_FILE)
    if not storage.exists(uri):
        storage.list_files(home)
        return ScoreTables(home, model_id or "", ())
    rows = sorted(patient_rows(home), key=lambda row: row.scored_at.timestamp() if row.scored_at else 0.0)
    models = Counter(row.model_id for row in rows)
    if model_id not in models and rows:
        model_id = rows[-1].model_id
    # Two runs with two thresholds leave two rows of a scan: the later one counts.
    latest = {row.scan_id: row for row in rows if row.model_id == model_id}
    other_models = {name: count for name, count in models.items() if name != model_id}
    return ScoreTables(
        home, model_id or "", tuple(latest[scan_id] for scan_id in sorted(latest)), other_models
    )


def _slice_score(row: ScanScore, stored: ScoredSlice) -> SliceScore:
    predicted, probability = stored.tumour_pixels, stored.max_probability
    return SliceScore(
        patient_id=row.patient_id,
        scan_id=row.scan_id,
        slice_index=stored.slice_index,
        predicted=predicted,
        true=stored.true_pixels,
        max_probability=probability,
        dice=stored.dice,
        positive=probability >= row.threshold if predicted is None else predicted > 0,
    )


def _predicted(stored: ScoredSlice) -> PredictedSlice:
    return PredictedSlice(_mask(stored), stored.tumour_pixels, stored.dice, stored.max_probability)


def _mask(stored: ScoredSlice) -> SliceMask | None:
    if stored.mask is None:
        return None
    shape = stored.height, stored.width
    bits = np.unpackbits(np.frombuffer(stored.mask, np.uint8), count=shape[0] * shape[1])
    return bits.reshape(shape)
