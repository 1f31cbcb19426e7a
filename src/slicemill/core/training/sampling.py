"""How often the slices of a scan come in an epoch.

As they are, every slice comes once. A quota makes a scan give another number of slices, so that each patient
comes as often as any other (M. Buda et al., Computers in Biology and Medicine 109, 2019), or so that a share
of them shows tumour (nnU-Net's forced foreground: F. Isensee et al., Nature Methods 18, 2021). Which slices
make up the quota changes from epoch to epoch, so that all come in the end.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

#: True for slices with tumour, in slice order.
HasTumour = npt.NDArray[np.bool_]


@dataclass(frozen=True, order=True)
class Sampling:
    """How the slices of a scan are drawn in an epoch."""

    oversample: int = 1
    """Times that a slice with tumour comes, without a quota; the others come once."""
    quota: int | None = None
    """Slices that the scan gives; every one once if None."""
    tumour_share: float | None = None
    """Share of the quota that shows tumour, of a scan with both kinds of slices; None takes all alike."""

    def draws(self, slices: int, tumour_slices: int) -> int:
        """Slices that a scan gives in an epoch, repeats counted."""
        return slices + (self.oversample - 1) * tumour_slices if self.quota is None else self.quota

    def times(self, tumour: HasTumour, scan_id: str, seed: int, epoch: int) -> npt.NDArray[np.int64]:
        """Times that each slice comes in an epoch; a draw of scan, seed and epoch alone."""
        if self.quota is None:
            return np.where(tumour, self.oversample, 1).astype(np.int64)
        draw = np.random.default_rng((seed, epoch, zlib.crc32(scan_id.encode())))
        times = np.zeros(len(tumour), dtype=np.int64)
        for places, quota in self._kinds(tumour, self.quota):
            if len(places):
                times[places] = quota // len(places)
                times[draw.permutation(places)[: quota % len(places)]] += 1
        return times

    def _kinds(self, tumour: HasTumour, quota: int) -> list[tuple[npt.NDArray[np.int64], int]]:
        """Slices that share a quota, and the quota."""
        if self.tumour_share is None or tumour.all() or not tumour.any():
            return [(np.arange(len(tumour)), quota)]
        tumour_quota = round(self.tumour_share * quota)
        return [(np.flatnonzero(tumour), tumour_quota), (np.flatnonzero(~tumour), quota - tumour_quota)]


#: Every slice once.
EVERY_SLICE = Sampling()


def patient_quotas(patients: Sequence[str], slices: Sequence[int]) -> list[int]:
    """Quotas of scans, by patient and slices of each, with which every patient comes equally often.

    An epoch keeps its length, but for rounding. A patient's scans share by their slices, and each gives at
    least one.
    """
    of_patient: dict[str, int] = {}
    for patient, count in zip(patients, slices, strict=True):
        of_patient[patient] = of_patient.get(patient, 0) + count
    each = sum(slices) / max(1, len(of_patient))
    return [
        max(1, math.floor(each * count / of_patient[patient] + 0.5)) if count else 0
        for patient, count in zip(patients, slices, strict=True)
    ]
