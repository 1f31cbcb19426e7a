"""torch's DataLoader reads and normalises scans on a worker; this process predicts on all cores."""

from __future__ import annotations

import os

import numpy as np
import torch
from network import BATCH, Network, command_line, scans, volume, write_masks
from torch.utils.data import DataLoader, Dataset


class Volumes(Dataset[torch.Tensor]):
    """Scans as normalised volumes."""

    def __init__(self, paths: list) -> None:
        self._paths = paths

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, at: int) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(volume(self._paths[at])))


if __name__ == "__main__":
    work = command_line()
    network = Network(work.run, work.engine, threads=len(os.sched_getaffinity(0)))
    by_scan = scans(work.raw)
    loader = DataLoader(Volumes(by_scan), batch_size=None, num_workers=1, prefetch_factor=2)
    for paths, images in zip(by_scan, loader, strict=True):
        batches = [
            network.probabilities(images[at : at + BATCH].numpy()) for at in range(0, len(images), BATCH)
        ]
        write_masks(paths, np.concatenate(batches), network.threshold, work.out)
