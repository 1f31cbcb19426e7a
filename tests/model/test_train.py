from __future__ import annotations

import dataclasses
import hashlib
import itertools
import json
import logging
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from lock_holder import held_fence

from slicemill.core.evaluation.dice import dice
from slicemill.core.evaluation.options import ALL_OPTIONS, PredictionOptions
from slicemill.core.training.plan import LabelledFile, TrainPlan, labelled_slices
from slicemill.core.training.records import EpochLine, Metrics, SegmentationMetrics, parse_epochs
from slicemill.core.training.schedule import Span
from slicemill.core.training.selection import published_epoch
from slicemill.core.training.state import RunState
from slicemill.errors import ConfigError, InputError, ModelFileError, TrainingError
from slicemill.io import storage
from slicemill.io.places import Run
from slicemill.io.run.card import card_uri, load_card, weights_uri
from slicemill.io.storage.fence import LOCK_NAME, Holder
from slicemill.io.storage.uri import canonical, join, local_path
from slicemill.model.input import to_network_input, to_network_mask
from slicemill.model.loading.stacked import StackedBatch
from slicemill.model.networks.registry import architecture
from slicemill.model.predicting.predictor import NetworkPredictor
from slicemill.model.training import checkpoint, loop, losses, rank_run, step, time_budget
from slicemill.model.training import validate as validate_module
from slicemill.model.training.checkpoint import network_bytes
from slicemill.model.training.learner import Learner, make_learner
from slicemill.model.training.ranks import Rank
from slicemill.model.training.step import MOST_LOST, NetworkBatch, take_step
from slicemill.model.training.time_budget import TimeBudget
from slicemill.model.training.validate import ValidatedBatch, best_options, dice_by_options, validate
from slicemill.types import Uri


def _train(plan: TrainPlan) -> dict[str, Any]:
    return json.loads(rank_run.train(plan.to_json()))


def _resume(plan: TrainPlan, **settings: Any) -> dict[str, Any]:
    """Launch again as the driver does, which clears the mark of the earlier launch."""
    storage.remove(Run(_out(plan)).started)
    return _train(
        dataclasses.replace(plan, settings=dataclasses.replace(plan.settings, resume=True, **settings))
    )


def _out(plan: TrainPlan) -> Uri:
    return Run.of(plan).home


def _reason(plan: TrainPlan) -> dict[str, Any]:
    found: dict[str, Any] = storage.read_json(Run(_out(plan)).failure(0))
    return found


def _metrics(plan: TrainPlan) -> tuple[EpochLine, ...]:
    return parse_epochs(storage.read_bytes(Run.of(plan).metrics).decode())


@pytest.fixture(scope="module")
def trained(tiny_lake, tmp_path_factory) -> tuple[TrainPlan, dict[str, Any]]:
    """A finished run of 3 epochs with its summary; to be read only."""
    from slicemill.config import TrainConfig
    from slicemill.experiments.training import make_plan, scans_by_part
    from slicemill.io.storage.uri import canonical

    config = TrainConfig(
        lake=tiny_lake,
        split="demo",
        model="tiny",
        out=canonical(str(tmp_path_factory.mktemp("trained") / "run")),
        epochs=3,
        image_size=32,
        batch_size=4,
        device="cpu",
    )
    plan = make_plan(config, scans_by_part(config), threads=1)
    return plan, _train(plan)


def test_a_run_leaves_model_card_and_metrics_that_agree(trained) -> None:
    plan, summary = trained
    card, lines = load_card(_out(plan)), _metrics(plan)

    best = lines[published_epoch(lines) - 1]
    assert [line.epoch for line in lines] == [1, 2, 3]
    assert [line.slices for line in lines] == [19, 19, 19]
    assert summary["best_val_dice"] == card.metrics["val_dice"] == best.score
    assert summary["best_epoch"] == card.metrics["epoch"]
    assert summary["model_id"] == card.model_id
    assert summary["epochs"] == 3
    assert summary["slices_per_second"] > 0
    assert (card.split, card.split_hash, card.data_hash) == ("demo", plan.split_hash, plan.data_hash)
    assert card.training["seed"] == 0


def test_the_validation_dice_is_the_one_that_the_scorer_gets(trained, tiny_scans) -> None:
    plan, summary = trained
    predictor = NetworkPredictor.load(_out(plan), "cpu", "fp32", threads=1, engine="torch")
    (scan,) = [scan for scan in tiny_scans if scan.scan_id == "e"]
    scales = np.repeat(np.asarray(plan.normalisation["e"], dtype=np.float32)[None], len(scan.images), axis=0)

    found = predictor.predict(scan.images, scales)

    assert found.shape == scan.masks.shape
    assert found.dtype == np.float32
    assert ((found >= 0) & (found <= 1)).all()
    assert dice(found >= predictor.card.threshold, scan.masks) == pytest.approx(summary["best_val_dice"])


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(trained, make) -> None:
    _, summary = trained

    again, other = make(epochs=3), make(epochs=3, seed=1)

    assert _train(again)["model_id"] == summary["model_id"]
    storage.remove(Run(_out(again)).started)
    assert _train(other)["model_id"] != summary["model_id"]


@pytest.mark.parametrize("stop_in", [1, 2])
def test_a_run_that_was_cut_off_and_resumed_ends_bit_equal(trained, make, monkeypatch, stop_in: int) -> None:
    whole, _ = trained
    plan = make(epochs=3)
    real = rank_run.train_epoch

    def cut_off(learner: Learner, epoch: int, span: Span) -> loop.EpochResult:
        if epoch == stop_in:
            raise KeyboardInterrupt
        return real(learner, epoch, span)

    monkeypatch.setattr(rank_run, "train_epoch", cut_off)
    with pytest.raises(KeyboardInterrupt):
        _train(plan)
    monkeypatch.setattr(rank_run, "train_epoch", real)
    summary = _resume(plan)

    def tensors(run: TrainPlan) -> dict[str, torch.Tensor]:
        return safetensors.torch.load(storage.read_bytes(Run(_out(run)).last_checkpoint))

    before, after = tensors(whole), tensors(plan)
    assert before.keys() == after.keys()
    assert not [name for name in before if not torch.equal(before[name], after[name])]
    assert summary["model_id"] == load_card(_out(whole)).model_id
    timed = {"seconds": 0.0, "slices_per_second": 0.0}
    for ours, theirs in zip(_metrics(plan), _metrics(whole), strict=True):
        assert dataclasses.replace(ours, **timed) == dataclasses.replace(theirs, **timed)


def test_checkpoints_are_spaced_by_time_and_the_last_epoch_is_written(make, monkeypatch) -> None:
    written: list[int] = []
    real = checkpoint.Snapshot.write

    def noted(self: checkpoint.Snapshot, plan: TrainPlan) -> None:
        written.append(json.loads(self.header["slicemill.state"])["position"]["epochs_done"])
        real(self, plan)

    monkeypatch.setattr(checkpoint.Snapshot, "write", noted)
    _train(make(epochs=3))

    assert written == [1, 3]


def test_a_checkpoint_that_can_not_be_written_ends_the_run(make, monkeypatch) -> None:
    def full(self: checkpoint.Snapshot, plan: TrainPlan) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(checkpoint.Snapshot, "write", full)
    plan = make(epochs=3)

    assert _train(plan) == {}
    assert "no space left" in _reason(plan)["message"]
    assert not storage.exists(Run.of(plan).card)


def test_a_rank_whose_run_lost_its_lock_writes_nothing_more(make, monkeypatch) -> None:
    plan = make(epochs=3)
    home = Run.of(plan).home
    plan = dataclasses.replace(plan, lock_token=held_fence(home).token)
    real = rank_run.validate
    left: dict[str, str] = {}

    def overtaken(learner: Learner, size: int) -> object:
        if storage.exists(Run.of(plan).metrics) and not left:
            while not storage.exists(Run.of(plan).last_checkpoint):
                time.sleep(0.01)
            successor = Holder.of_this_process("successor", "another-token")
            storage.write_bytes(join(home, LOCK_NAME), successor.to_json())
            left.update(_contents(home))
        return real(learner, size)

    monkeypatch.setattr(rank_run, "validate", overtaken)

    assert _train(plan) == {}
    assert _contents(home) == left
    assert not storage.exists(Run.of(plan).card)


def _contents(home: Uri) -> dict[str, str]:
    files = [file.uri for file in storage.list_files(home)]
    return {uri: hashlib.sha256(storage.read_bytes(uri)).hexdigest() for uri in files}


def test_a_run_that_an_earlier_release_began_goes_on(make, monkeypatch) -> None:
    plan = make(epochs=1)
    first = _train(plan)
    run = Run.of(plan)
    tensors = safetensors.torch.load(storage.read_bytes(run.last_checkpoint))
    best = {name.removeprefix("best/"): each for name, each in tensors.items() if name.startswith("best/")}
    storage.write_bytes(run.best_weights, safetensors.torch.save(best))
    header = checkpoint._metadata(storage.read_bytes(run.last_checkpoint))
    rest = {name: each for name, each in tensors.items() if not name.startswith("best/")}
    storage.write_bytes(run.last_checkpoint, safetensors.torch.save(rest, header))

    assert _resume(plan)["model_id"] == first["model_id"]


def test_resuming_a_finished_run_changes_nothing(make) -> None:
    plan = make(epochs=1)
    first = _train(plan)

    again = _resume(plan)

    assert (again["model_id"], again["epochs"]) == (first["model_id"], 1)
    assert again["slices_per_second"] is None


def test_resuming_with_other_settings_is_refused(make) -> None:
    plan = make(epochs=1)
    _train(plan)

    _resume(plan, learning_rate=1e-4)

    assert _reason(plan)["kind"] == ConfigError.__name__
    assert "--learning-rate" in _reason(plan)["problem"]


def test_resuming_from_a_file_that_is_no_checkpoint(make) -> None:
    plan = make(resume=True)
    storage.write_bytes(Run(_out(plan)).last_checkpoint, b"no safetensors")

    _train(plan)

    assert _reason(plan)["kind"] == ModelFileError.__name__


def test_resuming_without_a_checkpoint_starts_at_the_beginning(make) -> None:
    assert _train(make(epochs=1, resume=True))["epochs"] == 1


def _nan_in(monkeypatch, *steps: int) -> None:
    """Make the training loss of these steps, counted from 1 over all epochs, nan."""
    real, calls = losses.SEGMENTATION["bce-dice"], itertools.count(1)

    def sometimes_nan(*arguments: torch.Tensor, **options: float) -> torch.Tensor:
        # Validation asks for the loss too, without a gradient.
        astray = torch.is_grad_enabled() and next(calls) in steps
        return real(*arguments, **options) * (float("nan") if astray else 1)

    monkeypatch.setitem(losses.SEGMENTATION, "bce-dice", sometimes_nan)


def test_a_loss_that_is_not_finite_stops_the_run_where_that_is_the_rule(make, monkeypatch) -> None:
    plan = make(non_finite="stop")
    _nan_in(monkeypatch, plan.steps_per_epoch + 2)

    assert _train(plan) == {}
    assert _reason(plan)["kind"] == TrainingError.__name__
    assert _reason(plan)["problem"] == "training went astray in epoch 2, step 2"


def test_a_lost_step_is_named_and_counted_and_leaves_no_trace_in_the_network(
    make, monkeypatch, caplog
) -> None:
    plan = make()
    _nan_in(monkeypatch, 3)

    with caplog.at_level(logging.WARNING):
        summary = _train(plan)

    assert "epoch 1, step 3: the gradient is not finite; the step is lost" in caplog.text
    assert summary["lost_steps"] == 1
    assert [line.lost_steps for line in _metrics(plan)] == [1, 0]
    weights = safetensors.torch.load(storage.read_bytes(weights_uri(_out(plan))))
    assert all(tensor.isfinite().all() for tensor in weights.values())


def test_an_epoch_that_takes_long_says_how_far_it_is(make, monkeypatch, caplog) -> None:
    monkeypatch.setattr(loop, "EVERY", 0.0)
    plan = make(epochs=1)

    with caplog.at_level(logging.INFO):
        _train(plan)

    bars = [line for line in caplog.messages if line.startswith("epoch 1:")]
    assert len(bars) == plan.steps_per_epoch
    assert "100%" in bars[-1]
    assert "loss" in bars[-1]


def test_the_validation_loss_is_the_training_loss_of_the_validation_slices(make, tiny_scans) -> None:
    learner, _ = _learner_and_batch(make())
    (scan,) = [scan for scan in tiny_scans if scan.scan_id == "e"]
    scales = torch.tensor([learner.plan.normalisation["e"]] * len(scan.images), dtype=torch.float32)
    inputs = to_network_input(torch.tensor(scan.images), scales, 32)
    with torch.no_grad():
        logits = learner.published.eval()(inputs)
    expected = losses.bce_dice(logits, to_network_mask(torch.tensor(scan.masks), 32), torch.ones(len(inputs)))

    assert validate(learner, 32).loss == pytest.approx(float(expected), rel=1e-5)


def test_validation_reads_from_memory_what_training_keeps_there(make) -> None:
    read = {}
    for cache in ("none", "ram"):
        learner, _ = _learner_and_batch(make(cache=cache))
        before = learner.cache.slices
        first, again = validate(learner, 32), validate(learner, 32)
        assert first == again
        read[cache] = first
    assert read["ram"] == read["none"]
    assert learner.cache.slices == before + sum(map(labelled_slices, learner.plan.validation))


def test_the_dice_by_options_by_hand(make, monkeypatch) -> None:
    learner, _ = _learner_and_batch(make())
    found, true = np.zeros((4, 8, 8), np.float32), np.zeros((4, 8, 8), bool)
    found[0:2, 0:2, 0:4] = 0.9  # 16 voxels over two slices, in different batches
    found[3, 6:8, 0:4] = 0.9  # 8 others
    true[0, 0:2, 0:4] = True  # 8 voxels
    halves = [
        ValidatedBatch("e", found[:1], true[:1], 0.0),
        ValidatedBatch("e", found[1:], true[1:], 0.0),
    ]
    truth = [ValidatedBatch("e", true.astype(np.float32), true, 0.0)]
    monkeypatch.setattr(
        validate_module,
        "_predicted",
        lambda learner, network, size, flips: iter(truth if flips else halves),
    )

    # Smoothed, the 8 of the last slice stay, since an end counts twice: 0.675; of the others too.
    by_names = {options.names: value for options, value in dice_by_options(learner, 32).items()}
    assert by_names == {
        (): pytest.approx(2 * 8 / (24 + 8)),
        ("smooth-slices",): pytest.approx(2 * 8 / (24 + 8)),
        ("largest-component",): pytest.approx(2 * 8 / (16 + 8)),
        ("smooth-slices", "largest-component"): pytest.approx(2 * 8 / (16 + 8)),
        **{options.names: 1.0 for options in ALL_OPTIONS if options.flips},
    }


_EQUAL = dict.fromkeys(ALL_OPTIONS, 0.7)


@pytest.mark.parametrize(
    ("scans", "gain", "expected"),
    [
        # 8 scans against the word of 85: 0.011 * 8 - 0.001 * 85 is above 0, 0.010 * 8 - 0.001 * 85 below.
        (8, 0.0, False),
        (8, 0.010, False),
        (8, 0.011, True),
        (1000, 0.001, True),
    ],
)
def test_the_largest_component_is_taken_where_validation_clearly_asks_for_it(
    scans: int, gain: float, expected: bool
) -> None:
    found = {options: 0.7 + gain * options.largest_component for options in _EQUAL}

    assert best_options(found, scans).largest_component == expected


@pytest.mark.parametrize(
    ("scans", "gain", "expected"),
    [
        # The word of 85 scans is 0: 0.06 * 8 is above 0.005 * 93, 0.05 * 8 below.
        (8, 0.0, False),
        (8, 0.05, False),
        (8, 0.06, True),
        (1000, 0.005, False),
        (1000, 0.006, True),
    ],
)
def test_flips_are_taken_where_they_are_worth_it(scans: int, gain: float, expected: bool) -> None:
    found = {options: 0.7 + gain * options.flips for options in _EQUAL}

    assert best_options(found, scans).flips == expected


@pytest.mark.parametrize("scans", [1, 4, 16])
def test_validation_overrules_what_other_trials_said(scans: int) -> None:
    # The largest component of each scan was a false alarm: Dice 0.098 became 0.0.
    measured = {options: 0.0 if options.largest_component else 0.098 for options in _EQUAL}
    assert not best_options(measured, scans).largest_component

    worse = {options: 0.0 if options.names else 0.098 for options in _EQUAL}
    assert best_options(worse, scans) == PredictionOptions()


def test_what_does_best_on_many_scans_is_taken() -> None:
    for best in _EQUAL:
        assert best_options(_EQUAL | {best: 0.8}, 10_000) == best


def test_the_card_takes_the_options_that_do_best(make, monkeypatch) -> None:
    plan, best = make(epochs=1), PredictionOptions(flips=True, largest_component=True)
    found = dict.fromkeys(_EQUAL, 0.1) | {best: 0.9}
    monkeypatch.setattr(rank_run, "dice_by_options", lambda learner, size: found)
    _train(plan)

    card = load_card(_out(plan))
    assert card.options == best.names
    assert card.metrics["val_dice_as_scored"] == 0.9


def test_a_lost_step_restores_running_statistics(make, monkeypatch) -> None:
    learner, batch = _learner_and_batch(make())
    before = {name: tensor.clone() for name, tensor in learner.network.state_dict().items()}
    _nan_in(monkeypatch, 1)
    learner = dataclasses.replace(learner, loss=losses.SEGMENTATION["bce-dice"])

    assert not take_step(learner, batch).finite

    assert all(torch.equal(before[name], tensor) for name, tensor in learner.network.state_dict().items())


@pytest.mark.parametrize("window", [1, 2, 32])
def test_losses_that_are_read_late_say_the_same(make, monkeypatch, tmp_path: Path, window: int) -> None:
    monkeypatch.setitem(step.WINDOWS, "cpu", window)
    plan = make(non_finite="stop", out=canonical(str(tmp_path / "stopped")))
    _nan_in(monkeypatch, plan.steps_per_epoch + 2)
    assert _train(plan) == {}
    assert _reason(plan)["problem"] == "training went astray in epoch 2, step 2"


@pytest.mark.parametrize("window", [2, 32])
def test_a_window_of_losses_changes_no_sum(make, monkeypatch, window: int) -> None:
    results = []
    for steps in (1, window):
        monkeypatch.setitem(step.WINDOWS, "cpu", steps)
        learner, _ = _learner_and_batch(make())
        results.append(loop.train_epoch(learner, 0, Span(0.0, 1.0)))

    assert results[0].lost_steps == results[1].lost_steps == 0
    assert results[0].loss == results[1].loss


def test_a_run_of_lost_steps_only_is_stopped(make, monkeypatch, tmp_path: Path) -> None:
    for batch_size, most in ((4, 5), (1, 11)):
        plan = make(batch_size=batch_size, out=canonical(str(tmp_path / str(batch_size))))
        _nan_in(monkeypatch, *range(6, 99))

        assert _train(plan) == {}
        assert _reason(plan)["found"] == f"neither, in {most} steps in a row"


def test_fp16_finds_its_scale_and_learns(make) -> None:
    # The scale begins where tiny gradients overflow: the first steps are lost, and no more than these.
    plan = make(epochs=6, precision="fp16")
    summary = _train(plan)

    lines = _metrics(plan)
    assert summary["lost_steps"] < MOST_LOST
    assert lines[-1].train_loss < lines[0].train_loss
    assert load_card(_out(plan)).training["precision"] == "fp16"


def _learner_and_batch(plan: TrainPlan) -> tuple[Learner, NetworkBatch]:
    rank = Rank(0, 1, torch.device("cpu"))
    torch.manual_seed(0)
    learner = make_learner(
        plan, rank, architecture(plan.network).build(dataclasses.asdict(plan.settings)), "fp32"
    )
    return learner, loop.to_network_batch(learner, next(iter(loop.open_epoch(learner, 0))), 32)


def test_a_step_in_parts_has_the_gradient_of_the_whole(make) -> None:
    # Without batch norm, and with a loss that is a mean over slices, parts must add up.
    gradients = []
    for parts in (1, 2, 4):
        learner, batch = _learner_and_batch(make(accumulate=parts, augment=False))
        network = learner.network.eval()
        learner = dataclasses.replace(
            learner, loss=lambda logits, targets, weights: losses.cross_entropy(logits, targets, weights)
        )
        take_step(learner, batch)
        gradients.append([parameter.grad.clone() for parameter in network.parameters()])

    for others in gradients[1:]:
        for one, other in zip(gradients[0], others, strict=True):
            torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-5)


def test_what_is_published_is_the_average_of_the_weights(make) -> None:
    learner, batch = _learner_and_batch(make(ema=0.99))
    first = [parameter.detach().clone() for parameter in learner.network.parameters()]
    take_step(learner, batch)
    second = [parameter.detach().clone() for parameter in learner.network.parameters()]
    take_step(learner, batch)
    third = [parameter.detach().clone() for parameter in learner.network.parameters()]

    # The first update takes the weights as they are, the next keeps (1 + 1) / (10 + 1) of the average.
    for average, one, two, three in zip(learner.published.parameters(), first, second, third, strict=True):
        assert not torch.equal(one, two)
        torch.testing.assert_close(average, two + (three - two) * (1 - 2 / 11))


def test_without_an_average_the_network_itself_is_published(make) -> None:
    learner, _ = _learner_and_batch(make(ema=0.0))

    assert learner.published is learner.network


def test_a_budget_ends_the_run_with_its_schedule_at_the_end(make) -> None:
    plan = make(epochs=None, budget_minutes=0.05)
    summary = _train(plan)

    lines = _metrics(plan)
    assert summary["epochs"] == len(lines) >= 2
    assert lines[-1].learning_rate < 0.2 * max(line.learning_rate for line in lines)


def test_a_budget_that_was_used_up_before_a_resume_leaves_nothing_to_do(make) -> None:
    plan = make(epochs=None, budget_minutes=0.001)
    first = _train(plan)

    assert _resume(plan)["model_id"] == first["model_id"]


def test_trying_the_pace_leaves_no_trace(make) -> None:
    learner, _ = _learner_and_batch(make(budget_minutes=1.0))
    before = {name: tensor.clone() for name, tensor in learner.network.state_dict().items()}

    TimeBudget(learner, RunState())

    assert all(torch.equal(before[name], tensor) for name, tensor in learner.network.state_dict().items())
    assert not learner.optimiser.state_dict()["state"]


def test_a_run_that_begins_with_smaller_pictures_ends_with_whole_ones(make, monkeypatch) -> None:
    sizes = []
    real = loop.to_network_batch

    def noted(learner: Learner, batch: StackedBatch, size: int) -> NetworkBatch:
        made = real(learner, batch, size)
        sizes.append({*made.inputs.shape[2:], *made.targets.shape[2:]})
        return made

    monkeypatch.setattr(loop, "to_network_batch", noted)
    plan = make(epochs=4, image_size=64, first_size=32)
    _train(plan)

    assert sizes == [{32}] * 2 * plan.steps_per_epoch + [{64}] * 2 * plan.steps_per_epoch
    assert [line.image_size for line in _metrics(plan)] == [32, 32, 64, 64]


@pytest.mark.parametrize(("first", "best"), [(32, 2), (64, 1)])
def test_an_epoch_of_whole_pictures_is_better_than_any_of_smaller_ones(
    make, monkeypatch, first: int, best: int
) -> None:
    validated = iter([0.2, 0.1])
    monkeypatch.setattr(rank_run, "validate", lambda learner, size: SegmentationMetrics(next(validated)))
    plan = make(epochs=2, image_size=64, first_size=first)

    assert _train(plan)["best_epoch"] == best
    assert load_card(_out(plan)).input_size == 64


def test_the_last_weights_are_published_where_an_earlier_epoch_was_better_by_chance(
    make, monkeypatch
) -> None:
    validated = iter([{"a": 0.9, "b": 0.1, "c": 0.5}, {"a": 0.4, "b": 0.2, "c": 0.6}])

    def lucky_first(learner: Learner, size: int) -> Metrics:
        by_scan = next(validated)
        return SegmentationMetrics(sum(by_scan.values()) / 3, by_scan)

    monkeypatch.setattr(rank_run, "validate", lucky_first)
    plan = make(epochs=2)

    assert _train(plan)["best_epoch"] == 2
    published = safetensors.torch.load(storage.read_bytes(weights_uri(_out(plan))))
    last = safetensors.torch.load(storage.read_bytes(Run(_out(plan)).last_checkpoint))
    assert all(torch.equal(last[f"average/module.{name}"], weights) for name, weights in published.items())


def test_a_run_that_ends_early_publishes_the_size_that_it_was_validated_at(make) -> None:
    plan = make(epochs=8, patience=1, learning_rate=1e-12, ema=0.0, image_size=64, first_size=32)
    _train(plan)

    assert len(_metrics(plan)) < 5
    assert load_card(_out(plan)).input_size == 32


def test_a_resumed_run_keeps_the_sizes_that_its_budget_chose(make, monkeypatch) -> None:
    plan = make(epochs=None, budget_minutes=0.05, image_size=None, first_size=None)
    monkeypatch.setattr(time_budget, "_affordable", lambda learner, minutes, largest: 128)
    _train(plan)
    monkeypatch.setattr(time_budget, "_affordable", lambda learner, minutes, largest: 192)
    _resume(plan)

    training = load_card(_out(plan)).training
    assert (training["first_size"], training["image_size"]) == (64, 128)


def test_a_budget_foresees_what_larger_pictures_will_cost(make) -> None:
    # Of a minute about 40 s are left after the reserve: four epochs of 10 s, or one of four times the pixels.
    learner, _ = _learner_and_batch(make(epochs=None, budget_minutes=1.0, image_size=64, first_size=32))
    budget = TimeBudget(learner, RunState())
    budget.note_epoch(9.0, Span(0.4, 0.49))

    assert budget.next_span(RunState(epochs_done=3, progress=0.49)) == Span(0.49, pytest.approx(0.6175))
    assert budget.next_span(RunState(epochs_done=4, progress=0.5)) == Span(0.5, 1.0)


def test_patience_ends_a_run_that_no_longer_gets_better(make) -> None:
    # At this rate nothing changes: the first epoch stays the best.
    plan = make(epochs=9, patience=2, learning_rate=1e-12, ema=0.0, weight_decay=0.0)
    _train(plan)

    lines = _metrics(plan)
    best = max(range(len(lines)), key=lambda at: lines[at].score)
    assert len(lines) == best + 3


def test_the_rate_finder_tries_rising_rates_and_leaves_no_model(make) -> None:
    plan = make(find_learning_rate=True)
    summary = _train(plan)

    found = storage.read_json(Run(_out(plan)).learning_rates)
    assert found["learning_rate"] == sorted(found["learning_rate"])
    assert len(found["loss"]) == len(found["learning_rate"]) == summary["steps"] > 20
    assert found["learning_rate"][0] < found["suggested"] == summary["suggested_learning_rate"] < 1
    assert min(found["loss"]) < found["loss"][0]
    assert not storage.exists(weights_uri(_out(plan)))


def test_slices_that_went_missing_stop_the_run_with_the_numbers(make) -> None:
    plan = make()
    share = tuple(LabelledFile(file.scan_id, file.uri, file.labelled_slices + 1) for file in plan.train[0])

    _train(dataclasses.replace(plan, train=(share,)))

    assert _reason(plan)["problem"] == "epoch 1 did not read each labelled slice once"
    assert _reason(plan)["expected"] == "23 slices, as the lake's scans table says"
    assert _reason(plan)["found"].startswith("19 slices")


def test_without_validation_the_lowest_training_loss_decides(make) -> None:
    plan = make(split="no-val")
    summary = _train(plan)

    lines = _metrics(plan)
    assert summary["best_val_dice"] is None
    assert summary["best_epoch"] == min(lines, key=lambda line: line.train_loss).epoch


def test_a_second_start_by_spark_does_nothing(make) -> None:
    plan = make(epochs=1)
    assert _train(plan)["epochs"] == 1
    storage.remove(Run(_out(plan)).metrics)

    assert _train(plan) == {}
    assert not storage.exists(Run(_out(plan)).metrics)


def test_it_learns(make) -> None:
    plan = make(epochs=12, augment=False, learning_rate=3e-3)
    _train(plan)

    lines = _metrics(plan)
    assert lines[-1].train_loss < lines[0].train_loss / 2


class TestModelFiles:
    """What a scorer may be pointed at by mistake."""

    @pytest.fixture
    def run(self, trained, tmp_path: Path) -> str:
        plan, _ = trained
        copy = f"file://{tmp_path}/copy"
        for uri in (weights_uri, card_uri):
            storage.write_bytes(uri(copy), storage.read_bytes(uri(_out(plan))))
        return copy

    def test_no_safetensors(self, run: str) -> None:
        storage.write_bytes(weights_uri(run), b"torch's own format")

        with pytest.raises(ModelFileError, match="is not a safetensors file"):
            NetworkPredictor.load(run)

    def test_no_weights_at_all(self, run: str) -> None:
        storage.remove(weights_uri(run))

        with pytest.raises(ModelFileError, match="expected the weights that train wrote"):
            NetworkPredictor.load(run)

    def test_weights_of_another_run(self, run: str) -> None:
        torch.manual_seed(5)
        storage.write_bytes(weights_uri(run), network_bytes(architecture("tiny").build()))

        with pytest.raises(ModelFileError, match="does not belong to its card"):
            NetworkPredictor.load(run)

    def test_a_network_that_this_release_does_not_have(self, run: str) -> None:
        path = local_path(card_uri(run))
        path.write_text(path.read_text().replace('"tiny"', '"unet-of-tomorrow"'))

        with pytest.raises(ModelFileError, match="a network that can't be built here"):
            NetworkPredictor.load(run)

    def test_no_run_at_all(self, tmp_path: Path) -> None:
        with pytest.raises(ModelFileError, match="no readable model card"):
            NetworkPredictor.load(f"file://{tmp_path}/nothing")

    def test_images_with_another_number_of_channels(self, run: str) -> None:
        with pytest.raises(ValueError, match=r"\(N, H, W, 3\)"):
            NetworkPredictor.load(run).predict(
                np.zeros((1, 8, 8, 1), np.uint8), np.zeros((1, 1, 4), np.float32)
            )


class TestPlan:
    """What the driver refuses before any rank starts."""

    def test_a_split_that_is_not_there(self, make) -> None:
        with pytest.raises(InputError, match=r"no split other.*demo, no-val"):
            make(split="other")

    def test_more_ranks_than_scans(self, make) -> None:
        with pytest.raises(ConfigError, match=r"--num-processes.*at most 4.*found 5"):
            make(num_processes=5, batch_size=5)

    @pytest.mark.parametrize(
        ("size", "expected"), [(48, "a multiple of 32"), (96, r"at most --image-size \(64\)")]
    )
    def test_a_first_size_that_does_not_fit(self, make, size: int, expected: str) -> None:
        with pytest.raises(ConfigError, match=f"--first-size.*{expected}.*found {size}"):
            make(image_size=64, first_size=size)

    def test_a_fold_of_a_split_of_parts(self, make) -> None:
        with pytest.raises(ConfigError, match="--fold"):
            make(fold=0)

    def test_no_lake(self, make, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="is not a lake"):
            make(lake=f"file://{tmp_path}")
