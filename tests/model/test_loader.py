from __future__ import annotations

import threading
import time
from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from lake_builder import TinyScan, tiny_scan, write_lake

from slicemill.config import TrainConfig
from slicemill.core.scans.normalise import RULE_NAMES, Rule
from slicemill.core.scans.scan import Scan, Slice
from slicemill.core.training.plan import LabelledFile, TrainPlan
from slicemill.errors import TrainingError
from slicemill.experiments.training import make_plan, scans_by_part
from slicemill.io import storage
from slicemill.io.raw.tiff import count_values
from slicemill.io.storage.uri import canonical, local_path
from slicemill.model.input import to_network_input
from slicemill.model.loading import loader, read_ahead
from slicemill.model.loading.loader import (
    EpochLoader,
    LabelledSlice,
    SliceCache,
    batches,
    read_labelled,
    shuffled,
)
from slicemill.model.loading.stacked import stack
from slicemill.model.predicting.batches import predict_scans
from slicemill.model.predicting.engines.engine import TorchEngine
from slicemill.model.predicting.predictor import NetworkPredictor
from slicemill.model.training.loop import to_tensors

Key = tuple[str, int]


def _read(
    plan: TrainPlan, rank: int = 0, epoch: int = 0, **options: Any
) -> tuple[list[list[Key]], list[Key], EpochLoader]:
    """Keys of each batch, keys of the slices that count, and the loader."""
    source = EpochLoader(
        plan.train[rank],
        batch_size=plan.batch_per_rank,
        steps=plan.steps_per_epoch,
        seed=7,
        epoch=epoch,
        rank=rank,
        **options,
    )
    made = list(source)
    keys = [[(entry.scan_id, entry.slice_index) for entry in batch.slices] for batch in made]
    real = [
        key
        for batch, found in zip(made, keys, strict=True)
        for key, weight in zip(found, batch.weights, strict=True)
        if weight
    ]
    return keys, real, source


def _labelled(scans: list[TinyScan], names: str) -> set[Key]:
    return {
        (scan.scan_id, at + 1)
        for scan in scans
        if scan.scan_id in names
        for at in range(len(scan.images))
        if at not in scan.unlabelled
    }


@pytest.mark.parametrize("ranks", [1, 2, 4])
@pytest.mark.parametrize("epoch", [0, 1, 2])
def test_all_ranks_see_each_labelled_slice_once_in_equal_steps(
    make, tiny_scans, ranks: int, epoch: int
) -> None:
    plan = make(num_processes=ranks)

    read = [_read(plan, rank, epoch, buffer=4) for rank in range(ranks)]

    assert Counter(key for _, real, _ in read for key in real) == Counter(_labelled(tiny_scans, "abcd"))
    assert {len(keys) for keys, _, _ in read} == {plan.steps_per_epoch}
    assert {len(batch) for keys, _, _ in read for batch in keys} == {plan.batch_per_rank}
    assert all(source.count.right for _, _, source in read)


def test_a_lake_may_lie_below_any_name(tmp_path) -> None:
    home = canonical(str(tmp_path / "a#b?c%20d" / "Zoé"))
    scan = tiny_scan("a", 3, size=(24, 24))
    write_lake(home, [scan], {"all": {scan.patient_id: "train"}})
    config = TrainConfig(home, "all", "file:///nowhere", batch_size=4)
    _, real, source = _read(make_plan(config, scans_by_part(config), threads=1), buffer=4)
    assert (sorted(real), source.count.right) == ([("a", 1), ("a", 2), ("a", 3)], True)


@pytest.mark.slow
@pytest.mark.parametrize("place", ["disk", "s3"])
def test_over_200_epochs_no_slice_is_missing_or_comes_twice_on_any_number_of_ranks(
    place: str, tmp_path, request
) -> None:
    scans = [tiny_scan(f"t{at}", 1 + at % 3, size=(24, 24)) for at in range(6)]
    home = canonical(str(tmp_path)) if place == "disk" else f"{request.getfixturevalue('bucket')}/lake"
    write_lake(home, scans, {"all": {scan.patient_id: "train" for scan in scans}})
    due = Counter(
        (scan.scan_id, at + 1) for scan in scans for at in range(len(scan.images)) for _ in range(2 - at % 2)
    )
    orders = Counter()
    # Each object is a request: there the numbers of ranks take turns.
    for turn, ranks in enumerate((1, 2, 4)):
        config = TrainConfig(
            home, "all", "file:///nowhere", batch_size=4, num_processes=ranks, oversample=2, seed=1
        )
        plan = make_plan(config, scans_by_part(config), threads=1)
        for epoch in range(200) if place == "disk" else range(turn, 200, 3):
            read = [_read(plan, rank, epoch, buffer=5) for rank in range(ranks)]
            drawn = [key for _, real, _ in read for key in real]
            assert Counter(drawn) == due, f"epoch {epoch} on {ranks} ranks"
            assert {len(keys) for keys, _, _ in read} == {plan.steps_per_epoch}
            assert all(source.count.right for _, _, source in read)
            orders[tuple(drawn)] += 1
    assert orders.most_common(1)[0][1] < 5


def test_slices_with_tumour_come_as_often_as_asked(make, tiny_scans) -> None:
    plan = make(oversample=3)
    tumour = {
        (scan.scan_id, at + 1) for scan in tiny_scans for at, mask in enumerate(scan.masks) if mask.any()
    }

    _, real, source = _read(plan)

    keys = _labelled(tiny_scans, "abcd")
    assert Counter(real) == Counter({key: 3 if key in tumour else 1 for key in keys})
    assert source.count.right
    assert source.count.read == len(keys) + 2 * len(keys & tumour)


def test_every_patient_comes_as_often_and_the_count_holds(make) -> None:
    # 19 labelled slices of four patients: 4.75 each, rounded.
    plan = make(sampling="patients", tumour_share=0.5)

    _, real, source = _read(plan)

    assert Counter(scan for scan, _ in real) == {"a": 5, "b": 5, "c": 5, "d": 5}
    assert source.count.right
    assert source.count.read == 20


@pytest.mark.parametrize("room", [0, 35_000, 10**9])
def test_a_cache_of_any_size_changes_nothing(make, monkeypatch, room: int) -> None:
    plan, cache = make(), SliceCache(room)
    opened: list[str] = []
    real = loader.petastorm_files
    monkeypatch.setattr(loader, "petastorm_files", lambda uris: opened.extend(uris) or real(uris))

    for epoch in range(3):
        before = len(opened)
        cached, _, source = _read(plan, epoch=epoch, cache=cache)
        read = len(opened) - before
        assert source.count.right
        assert cached == _read(plan, epoch=epoch)[0]

    assert read == {0: 4, 35_000: 2, 10**9: 0}[room]


def test_what_is_kept_holds_no_more_than_its_pixels(make) -> None:
    plan, cache = make(), SliceCache(10**9)

    _read(plan, cache=cache)

    kept = list(cache.read(plan.train[0]))
    assert len(kept) == cache.slices > 0
    assert all(array.base is None for entry in kept for array in (entry.image, entry.mask))


def test_the_order_follows_from_seed_and_epoch(make) -> None:
    plan = make()

    once, again, later = (_read(plan, epoch=epoch)[0] for epoch in (0, 0, 1))

    assert once == again
    assert once != later
    flat = [key for batch in once for key in batch]
    assert flat != sorted(flat)


def test_pixels_and_masks_are_those_of_the_lake(make, tiny_scans) -> None:
    scans = {scan.scan_id: scan for scan in tiny_scans}

    for entry in read_labelled([file for share in make().train for file in share]):
        stored = scans[entry.scan_id]
        np.testing.assert_array_equal(entry.image, stored.images[entry.slice_index - 1])
        np.testing.assert_array_equal(entry.mask, stored.masks[entry.slice_index - 1])


def test_neighbours_come_from_the_whole_scan_whether_labelled_or_not(make, tiny_scans) -> None:
    plan = make(channels="flair25d")
    scans = {scan.scan_id: scan for scan in tiny_scans}

    read = list(read_labelled([file for share in plan.train for file in share]))

    assert {(entry.scan_id, entry.slice_index) for entry in read} == _labelled(tiny_scans, "abcd")
    for entry in read:
        flair = scans[entry.scan_id].images[..., 1]
        at = entry.slice_index - 1
        before, after = max(at - 1, 0), min(at + 1, len(flair) - 1)
        np.testing.assert_array_equal(
            entry.image, np.stack([flair[before], flair[at], flair[after]], axis=-1)
        )
    stored = make(channels="rgb").normalisation
    assert all(rows == [stored[scan][1]] * 3 for scan, rows in plan.normalisation.items())


@pytest.mark.parametrize(("options", "layout"), [({}, "rgb"), ({"channels": "auto"}, "flair25d")])
def test_only_scans_that_lack_a_sequence_get_neighbours_and_only_if_asked(
    tiny_lake, options: dict[str, Any], layout: str
) -> None:
    config = TrainConfig(lake=tiny_lake, split="demo", out="file:///nowhere", batch_size=4, **options)
    sides = scans_by_part(config)
    first, second, *others = sides.train
    second = replace(second, missing_sequences=["post-contrast"])
    sides = replace(sides, train=[first, second, *others])

    layouts = [[file.layout for file in share] for share in make_plan(config, sides, threads=1).train]

    assert layouts == [["rgb" if file != second.scan_id else layout for file in "acbd"]]


@pytest.mark.parametrize(
    ("mode", "rule"), [("auto", "volume"), ("rgb", "tissue"), ("flair25d", "tissue"), ("rgb", "none")]
)
def test_a_slice_reaches_the_network_bit_equal_from_the_loader_and_from_the_scorer(
    make, tiny_scans, mode: str, rule: Rule
) -> None:
    plan, scans = (
        make(channels=mode, normalisation=rule),
        {scan.scan_id: _as_read(scan) for scan in tiny_scans},
    )
    seen: list[torch.Tensor] = []

    class Network(torch.nn.Module):
        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            seen.append(inputs)
            return inputs[:, :1]

    class Card:
        channels, input_size, channel_mode = ("a", "b", "c"), 32, mode
        normalisation = RULE_NAMES[rule]

    predictor = NetworkPredictor(Card(), TorchEngine(Network(), torch.device("cpu"), "fp32"))
    for batch in EpochLoader(
        plan.train[0], batch_size=4, steps=plan.steps_per_epoch, seed=1, epoch=0, rank=0
    ):
        inputs, _, _ = to_tensors(stack(batch, plan.normalisation), torch.device("cpu"), 32)
        for entry, trained in zip(batch.slices, inputs, strict=True):
            scan = scans[entry.scan_id]
            list(predict_scans([(None, scan)], predictor, len(scan.slices), 0.5))
            assert torch.equal(seen.pop()[entry.slice_index - 1], trained)


def _as_read(scan: TinyScan) -> Scan:
    """The scan as scoring reads it."""
    slices = [
        Slice(at + 1, image, None, count_values(image), "absent", "") for at, image in enumerate(scan.images)
    ]
    return Scan(scan.scan_id, scan.patient_id, tuple(slices), ())


def test_slices_of_several_sizes_keep_their_places_in_a_batch(make) -> None:
    plan = make(batch_size=16)
    (batch,) = list(EpochLoader(plan.train[0], batch_size=19, steps=1, seed=3, epoch=0, rank=0))

    inputs, masks, weights = to_tensors(stack(batch, plan.normalisation), torch.device("cpu"), 32)

    assert inputs.shape == (19, 3, 32, 32)
    assert masks.shape == (19, 1, 32, 32)
    assert weights.tolist() == [1.0] * 19
    for entry, found in zip(batch.slices, inputs, strict=True):
        scales = torch.tensor([plan.normalisation[entry.scan_id]], dtype=torch.float32)
        assert torch.equal(to_network_input(torch.tensor(entry.image[None]), scales, 32)[0], found)


def _numbered(count: int) -> list[LabelledSlice]:
    empty = np.zeros((1, 1, 3), dtype=np.uint8)
    return [LabelledSlice("scan", at, empty, empty[..., 0]) for at in range(count)]


@pytest.mark.parametrize("buffer", [1, 3, 100])
def test_shuffling_loses_and_repeats_nothing(buffer: int) -> None:
    found = [entry.slice_index for entry in shuffled(iter(_numbered(20)), buffer, np.random.default_rng(0))]

    assert sorted(found) == list(range(20))
    assert (found == list(range(20))) == (buffer == 1)


def test_missing_slices_are_filled_with_weight_0() -> None:
    made = list(batches(iter(_numbered(3)), batch_size=2, steps=3))

    assert [[entry.slice_index for entry in batch.slices] for batch in made] == [[0, 1], [2, 0], [0, 1]]
    assert [batch.weights.tolist() for batch in made] == [[1, 1], [1, 0], [0, 0]]


def test_surplus_slices_are_drawn_so_that_they_are_counted() -> None:
    slices = iter(_numbered(7))

    assert len(list(batches(slices, batch_size=2, steps=2))) == 2
    assert next(slices, None) is None


def test_nothing_to_read_is_an_error() -> None:
    with pytest.raises(TrainingError, match="no slices to train on"):
        list(batches(iter([]), batch_size=2, steps=2))


def test_a_lake_that_lost_slices_is_noticed(make) -> None:
    plan = make()
    share = tuple(
        LabelledFile(file.scan_id, file.uri, file.labelled_slices + (file.scan_id == "a"))
        for file in plan.train[0]
    )
    source = EpochLoader(share, batch_size=4, steps=6, seed=0, epoch=0, rank=0)

    list(source)

    assert not source.count.right
    assert (source.count.read, source.count.expected, source.count.wrong_scans) == (19, 20, 1)


def test_a_file_read_twice_is_noticed_even_if_the_total_is_right(make) -> None:
    files = {file.scan_id: file for file in make().train[0]}
    share = (files["d"], files["d"], LabelledFile("z", files["d"].uri, 0))
    source = EpochLoader(share[:2], batch_size=4, steps=2, seed=0, epoch=0, rank=0)

    list(source)

    assert source.count.repeated == 3
    assert not source.count.right


def test_a_missing_file_is_one_clear_error(make) -> None:
    gone = LabelledFile("gone", "file:///nowhere/gone.parquet", 3)

    with pytest.raises(Exception, match=r"/nowhere/gone\.parquet is missing from the lake.*Run ingest again"):
        list(EpochLoader((gone,), batch_size=2, steps=2, seed=0, epoch=0, rank=0))


def test_a_broken_file_is_one_clear_error(make, tmp_path) -> None:
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 and nothing else PAR1")
    broken = LabelledFile("broken", f"file://{tmp_path}/broken.parquet", 3)

    with pytest.raises(TrainingError, match="the lake can't be read"):
        list(EpochLoader((broken,), batch_size=2, steps=2, seed=0, epoch=0, rank=0))


def test_a_folder_in_place_of_a_file_is_not_opened(make, tmp_path) -> None:
    # Petastorm would unpickle a schema that it finds in such a folder's metadata.
    (tmp_path / "trap.parquet").mkdir()

    with pytest.raises(Exception, match="missing from the lake"):
        list(read_labelled([LabelledFile("trap", f"file://{tmp_path}/trap.parquet", 1)]))


def test_a_hung_reader_is_given_up(make, monkeypatch) -> None:
    monkeypatch.setattr(read_ahead, "PATIENCE", 0.1)
    monkeypatch.setattr(loader, "_read_scans", lambda files: (time.sleep(0.4) or [] for _ in files))

    with pytest.raises(TrainingError, match="the reader hangs"):
        list(EpochLoader(make().train[0], batch_size=2, steps=2, seed=0, epoch=0, rank=0))


def test_a_reader_that_is_left_early_ends_its_thread(make) -> None:
    source = iter(EpochLoader(make().train[0], batch_size=2, steps=10, seed=0, epoch=0, rank=0))
    next(source)
    source.close()

    assert not [thread for thread in threading.enumerate() if thread.name == "slice-reader"]


def test_from_s3_as_from_disk(make, bucket: str) -> None:
    files = make().train[0]
    copies = []
    for file in files:
        copy = f"{bucket}/lake/patient_id=P{file.scan_id}/{file.scan_id}.parquet"
        storage.write_bytes(copy, local_path(file.uri).read_bytes())
        copies.append(LabelledFile(file.scan_id, copy, file.labelled_slices))

    local, remote = list(read_labelled(files)), list(read_labelled(copies))

    assert [(entry.scan_id, entry.slice_index) for entry in local] == [
        (entry.scan_id, entry.slice_index) for entry in remote
    ]
    assert all(np.array_equal(ours.image, theirs.image) for ours, theirs in zip(local, remote, strict=True))
    assert all(np.array_equal(ours.mask, theirs.mask) for ours, theirs in zip(local, remote, strict=True))
