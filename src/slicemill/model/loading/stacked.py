"""Batches as tensors that go to a device in one copy each: pixels as bytes, slices of one shape together."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from slicemill.model.loading.loader import Batch, EpochCount, EpochLoader
from slicemill.model.loading.read_ahead import read_ahead

#: Of each scan: low, high, mean, scale of each input channel.
Normalisation = Mapping[str, Sequence[Sequence[float]]]

#: Batches that wait for the device.
_AHEAD = 2


@dataclass(frozen=True)
class StackedPart:
    """Slices of a batch that have one shape."""

    images: Tensor
    """uint8, axes (N, H, W, C)."""
    masks: Tensor
    """uint8 0/1, axes (N, H, W)."""
    normalisation: Tensor
    """float32, axes (N, C, 4), each slice its own scan's."""
    places: Tensor
    """int64, axes (N): where in the batch each slice belongs."""

    def to(self, device: torch.device) -> StackedPart:
        """The part on a device; from pinned memory nothing waits for the copies."""
        tensors = (self.images, self.masks, self.normalisation, self.places)
        return StackedPart(*(tensor.to(device, non_blocking=True) for tensor in tensors))


@dataclass(frozen=True)
class StackedBatch:
    """Slices of one step; weight 0 marks one that is only there to fill the step."""

    parts: tuple[StackedPart, ...]
    weights: Tensor
    """float32, axes (N)."""
    keys: tuple[tuple[str, int], ...]
    """Scan id and slice index of each slice."""

    def to(self, device: torch.device) -> StackedBatch:
        """The batch on a device."""
        weights = self.weights.to(device, non_blocking=True)
        return StackedBatch(tuple(part.to(device) for part in self.parts), weights, self.keys)


def stack(batch: Batch, normalisation: Normalisation, pin: bool = False) -> StackedBatch:
    """A batch as tensors, pinned in memory if a GPU is to fetch them."""
    shapes = [entry.image.shape for entry in batch.slices]
    parts = []
    for shape in sorted(set(shapes)):
        places = [place for place, other in enumerate(shapes) if other == shape]
        group = [batch.slices[place] for place in places]
        tensors = (
            torch.from_numpy(np.stack([entry.image for entry in group])),
            torch.from_numpy(np.stack([entry.mask for entry in group])),
            torch.tensor([normalisation[entry.scan_id] for entry in group], dtype=torch.float32),
            torch.tensor(places),
        )
        parts.append(StackedPart(*(tensor.pin_memory() if pin else tensor for tensor in tensors)))
    weights = torch.from_numpy(batch.weights)
    keys = tuple((entry.scan_id, entry.slice_index) for entry in batch.slices)
    return StackedBatch(tuple(parts), weights.pin_memory() if pin else weights, keys)


class StackedEpoch:
    """The batches of a loader, stacked by a thread ahead of the device."""

    def __init__(self, loader: EpochLoader, normalisation: Normalisation, pin: bool) -> None:
        self._loader, self._normalisation, self._pin = loader, normalisation, pin

    def __iter__(self) -> Iterator[StackedBatch]:
        with read_ahead(self._stacked(), _AHEAD) as batches:
            yield from batches

    @property
    def count(self) -> EpochCount:
        """What has been drawn so far."""
        return self._loader.count

    def _stacked(self) -> Generator[StackedBatch, None, None]:
        for batch in self._loader:
            yield stack(batch, self._normalisation, self._pin)


def steps_of(order: Sequence[int], batch_size: int, steps: int) -> Iterator[tuple[list[int], list[float]]]:
    """Exactly `steps` batches of an order with their weights; its first entries fill the last, weight 0."""
    for step in range(steps):
        real = list(order[step * batch_size : (step + 1) * batch_size])
        fill = [order[place % len(order)] for place in range(batch_size - len(real))]
        yield [*real, *fill], [1.0] * len(real) + [0.0] * len(fill)
