"""Slices on the device, here the CPU: the same pixels, drawn as often, whatever their shapes."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter

import numpy as np
import pytest
import torch

from slicemill.core.training.plan import TrainPlan
from slicemill.model.loading import device_slices
from slicemill.model.loading.device_slices import DeviceSlices
from slicemill.model.loading.loader import Batch, read_labelled
from slicemill.model.loading.stacked import stack, steps_of
from slicemill.model.training import rank_run
from slicemill.model.training.loop import to_tensors

CPU = torch.device("cpu")


def _on_device(plan: TrainPlan) -> DeviceSlices:
    slices = DeviceSlices.load(plan.train[0], plan.normalisation, CPU, ranks=1)
    assert slices is not None
    return slices


def test_a_batch_by_index_is_the_batch_of_these_slices_bit_for_bit(make) -> None:
    plan: TrainPlan = make()
    by_key = {(entry.scan_id, entry.slice_index): entry for entry in read_labelled(plan.train[0])}
    epoch = _on_device(plan).epoch(batch_size=5, steps=4, seed=0, epoch=0, rank=0)

    shapes = set()
    for batch in epoch:
        slices = tuple(by_key[key] for key in batch.keys)
        shapes.add(len({entry.image.shape for entry in slices}))
        other = stack(Batch(slices, batch.weights.numpy()), plan.normalisation)
        for ours, theirs in zip(to_tensors(batch, CPU, 32), to_tensors(other, CPU, 32), strict=True):
            assert torch.equal(ours, theirs)
    assert 2 in shapes


@pytest.mark.parametrize("settings", [{}, {"oversample": 3}, {"sampling": "patients", "tumour_share": 0.5}])
def test_every_slice_comes_as_often_as_it_is_due(make, settings: dict[str, object]) -> None:
    plan: TrainPlan = make(**settings)
    slices, orders = _on_device(plan), set()
    for number in range(3):
        epoch = slices.epoch(batch_size=4, steps=plan.steps_per_epoch, seed=0, epoch=number, rank=0)
        drawn = [
            key
            for batch in epoch
            for key, weight in zip(batch.keys, batch.weights.tolist(), strict=True)
            if weight
        ]
        per_scan = Counter(scan for scan, _ in drawn)
        assert per_scan == {file.scan_id: file.draws for file in plan.train[0]}
        assert epoch.count.right
        orders.add(tuple(drawn))
    assert len(orders) == 3


def test_a_scan_that_lost_slices_is_counted(make) -> None:
    plan: TrainPlan = make()
    first, *rest = plan.train[0]
    files = (dataclasses.replace(first, labelled_slices=first.labelled_slices + 1), *rest)
    slices = DeviceSlices.load(files, plan.normalisation, CPU, ranks=1)
    assert slices is not None

    assert not slices.epoch(batch_size=4, steps=5, seed=0, epoch=0, rank=0).count.right


def test_what_does_not_fit_is_read_from_the_lake(make, monkeypatch, caplog) -> None:
    plan: TrainPlan = make(cache="gpu", epochs=1)
    monkeypatch.setattr(device_slices, "_room", lambda device: 10_000)

    assert json.loads(rank_run.train(plan.to_json()))["epochs"] == 1
    assert "the slices do not fit on the device" in caplog.text


def test_a_run_learns_from_slices_on_the_device(make) -> None:
    plan: TrainPlan = make(cache="gpu", epochs=2, random_labels=False)
    summary = json.loads(rank_run.train(plan.to_json()))

    assert summary["epochs"] == 2
    assert np.isfinite(summary["best_val_loss"])


def test_a_step_that_is_not_full_is_filled_without_weight() -> None:
    assert list(steps_of([7, 8, 9], batch_size=2, steps=3)) == [
        ([7, 8], [1.0, 1.0]),
        ([9, 7], [1.0, 0.0]),
        ([7, 8], [0.0, 0.0]),
    ]
