"""A scan's logits from the boxes of its slices that are head: the rest is air, and not computed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from slicemill.core.scans.boxes import Box, scan_boxes
from slicemill.core.scans.scan import Scan
from slicemill.model.predicting.predictor import NetworkPredictor
from slicemill.types import SliceImage

#: Logit of air: a probability of 2e-9.
AIR_LOGIT = -20.0


def box_logits(
    scan: Scan,
    images: Sequence[SliceImage],
    normalisation: npt.NDArray[np.float32],
    predictor: NetworkPredictor,
    batch_size: int,
    flips: bool,
) -> Tensor:
    """Logits of a scan's slices; float32 with axes (S, M, size, size), on the engine's device.

    `images` and `normalisation` are those of `scan_input`. Batches hold boxes of one shape and of this scan
    alone, so that no other scan changes its numbers.
    """
    size = predictor.card.input_size
    outputs = max(1, len(predictor.card.members))
    logits = torch.full((len(images), outputs, size, size), AIR_LOGIT, device=predictor.device)
    for batch in _batches(scan_boxes(scan, size), batch_size):
        numbers = np.repeat(normalisation[None], len(batch), axis=0)
        inputs = predictor.inputs(np.stack([images[position] for position, _ in batch]), numbers)
        cut = [
            plane[:, box.top : box.bottom, box.left : box.right]
            for plane, (_, box) in zip(inputs, batch, strict=True)
        ]
        for plane, (position, box) in zip(predictor.logits(torch.stack(cut), flips), batch, strict=True):
            logits[position, :, box.top : box.bottom, box.left : box.right] = plane
    return logits


def _batches(boxes: Sequence[Box | None], batch_size: int) -> Iterator[list[tuple[int, Box]]]:
    """Positions of slices with their boxes, of one shape a batch."""
    groups: dict[tuple[int, int], list[tuple[int, Box]]] = defaultdict(list)
    for position, box in enumerate(boxes):
        if box is not None:
            groups[box.shape].append((position, box))
    for group in groups.values():
        for start in range(0, len(group), batch_size):
            yield group[start : start + batch_size]
